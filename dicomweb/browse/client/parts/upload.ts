/** Uploading files from the page: choose or drop, a few at a time, progress, errors for each file. */
import { droppedFiles } from "./dropped";
import { store } from "./stow";
import { say, type Words } from "./words";

const AT_ONCE = 3;
const ERRORS_SHOWN = 200;

interface Progress {
  files: number;
  done: number;
  failed: number;
  bytes: number;
  sent: number;
}

function part<T extends Element>(name: string): T {
  return document.querySelector<T>(`[data-upload-${name}]`)!;
}

/** Make `target` accept drops and the upload button work; `onStored` runs after something arrived. */
export function setUpUpload(target: HTMLElement, words: Words, onStored: () => void): void {
  const queue: File[] = [];
  let progress: Progress = { files: 0, done: 0, failed: 0, bytes: 0, sent: 0 };
  let running = 0;
  let cancel = new AbortController();
  const panel = part<HTMLElement>("panel");

  const show = (): void => {
    const { files, done, failed } = progress;
    const finished = done + failed === files;
    const key = !finished ? "upload_running" : failed ? "upload_some_failed" : "upload_done";
    part<HTMLElement>("title").textContent = say(words, finished ? "upload_finished" : "upload_busy");
    part<HTMLElement>("status").textContent = say(words, key, { files, done, failed });
    part<HTMLProgressElement>("bar").value = finished ? 1 : progress.sent / Math.max(1, progress.bytes);
    panel.classList.toggle("is-finished", finished);
    panel.hidden = files === 0;
  };

  const fail = (file: File, reason: string): void => {
    progress.failed += 1;
    const list = part<HTMLElement>("errors");
    if (list.childElementCount >= ERRORS_SHOWN) return;
    const item = document.createElement("li");
    const name = document.createElement("strong");
    name.textContent = file.name;
    item.append(name, ` ${reason}`);
    list.append(item);
  };

  const work = async (): Promise<void> => {
    running += 1;
    for (let file = queue.shift(); file; file = queue.shift()) {
      const onProgress = (bytes: number): void => {
        progress.sent += bytes;
        show();
      };
      const outcome = await store(file, words, onProgress, cancel.signal);
      if (outcome.ok) progress.done += 1;
      else fail(file, outcome.reason);
      show();
    }
    running -= 1;
    if (running === 0 && progress.done) onStored();
  };

  const add = (files: File[]): void => {
    if (files.length === 0) return;
    if (running === 0) {
      progress = { files: 0, done: 0, failed: 0, bytes: 0, sent: 0 };
      cancel = new AbortController();
      part<HTMLElement>("errors").replaceChildren();
    }
    queue.push(...files);
    progress.files += files.length;
    progress.bytes += files.reduce((sum, file) => sum + file.size, 0);
    show();
    while (running < Math.min(AT_ONCE, files.length)) void work();
  };

  const input = part<HTMLInputElement>("input");
  input.addEventListener("change", () => {
    add([...(input.files ?? [])]);
    input.value = "";
  });
  input.closest("label")?.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    input.click();
  });
  part("close").addEventListener("click", () => {
    queue.length = 0;
    if (running) cancel.abort();
    panel.hidden = true;
  });
  acceptDrops(target, add);
}

function acceptDrops(target: HTMLElement, add: (files: File[]) => void): void {
  const veil = target.querySelector<HTMLElement>("[data-drop-veil]")!;
  let depth = 0;
  const show = (): void => {
    veil.hidden = depth <= 0;
  };
  window.addEventListener("dragenter", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    depth += 1;
    show();
  });
  window.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    show();
  });
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    show();
    if (event.dataTransfer) void droppedFiles(event.dataTransfer).then(add);
  });
}
