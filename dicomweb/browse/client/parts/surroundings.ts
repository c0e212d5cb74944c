/** What stands around the image: overlay text, counter, loaded slices, messages. */
import type { ImageFacts } from "./metadata";
import type { Pane } from "./pane";
import { round } from "./stack";
import type { ViewerState } from "./viewer";
import { say, type Words } from "./words";

const BUSY_AFTER_MS = 180;

function find<T extends Element = HTMLElement>(selector: string): T {
  return document.querySelector<T>(selector)!;
}

let busyTimer = 0;

export function showState(state: ViewerState, pane: Pane, words: Words): void {
  const { stack, frames, index, playing } = state;
  const isObject = stack.shape === "object";
  find("[data-slider-row]").hidden = isObject || frames.length < 2;
  find("[data-count]").textContent = frames.length ? `${index + 1} / ${frames.length}` : "";
  for (const button of document.querySelectorAll<HTMLElement>("button[data-tool]")) button.hidden = isObject;
  const play = find('[data-action="play"]');
  play.hidden = isObject || frames.length < 2;
  play.setAttribute("aria-pressed", String(playing));
  find("[data-overlay]").classList.toggle("is-empty", isObject);
  lines('[data-corner="series"]', isObject ? [] : seriesLines(state, words));
  lines('[data-corner="state"]', isObject ? [] : stateLines(state, pane, words));
  edges(isObject ? undefined : state.facts?.edges);
  showMessage(state, words);
  showBusy(!isObject && !state.isShown && !state.problem);
}

function seriesLines({ stack, frame, frames, index, facts }: ViewerState, words: Words): string[] {
  const found = [stack.label];
  if (frames.length) {
    const key = stack.shape === "frames" ? "overlay_frame" : "overlay_image";
    found.push(say(words, key, { index: index + 1, count: frames.length }));
  }
  if (frame && facts?.location !== undefined && stack.shape === "images") {
    found.push(say(words, "overlay_location", { mm: facts.location.toFixed(1) }));
  }
  if (facts?.thickness) found.push(say(words, "overlay_thickness", { mm: facts.thickness }));
  return found;
}

function stateLines(state: ViewerState, pane: Pane, words: Words): string[] {
  const window = state.window ?? state.facts?.windows[0];
  const found: string[] = [];
  if (state.frame) found.push(`${state.frame.columns} × ${state.frame.rows}`);
  found.push(say(words, "overlay_zoom", { percent: Math.round(pane.magnification() * 100) }));
  if (window && !state.facts?.isColor) found.push(`W ${round(window.width)}  L ${round(window.center)}`);
  return found;
}

function lines(selector: string, texts: string[]): void {
  const corner = find(selector);
  const wanted = texts.filter(Boolean);
  if ([...corner.children].map((child) => child.textContent).join("\n") === wanted.join("\n")) return;
  corner.replaceChildren(
    ...wanted.map((text) => {
      const span = document.createElement("span");
      span.textContent = text;
      return span;
    }),
  );
}

function edges(letters: ImageFacts["edges"] | undefined): void {
  ["left", "right", "top", "bottom"].forEach((side, position) => {
    find(`[data-edge="${side}"]`).textContent = letters?.[position] ?? "";
  });
}

function showBusy(isBusy: boolean): void {
  const busy = find("[data-busy]");
  if (!isBusy) {
    window.clearTimeout(busyTimer);
    busyTimer = 0;
    busy.hidden = true;
  } else if (!busyTimer) {
    busyTimer = window.setTimeout(() => (busy.hidden = false), BUSY_AFTER_MS);
  }
}

function showMessage(state: ViewerState, words: Words): void {
  const message = find("[data-message]");
  const { stack, problem, frame, links } = state;
  message.hidden = !(stack.shape === "object" || problem);
  if (message.hidden) return;
  const title = stack.shape === "object" ? stack.kind : say(words, "cannot_display");
  const text = stack.shape === "object" ? stack.explanation : reason(problem!, words);
  const uid = frame?.uid ?? (stack.shape === "object" ? stack.key : "");
  if (message.dataset["shown"] === title + text + uid) return;
  message.dataset["shown"] = title + text + uid;
  const actions = document.createElement("div");
  actions.className = "pane-actions";
  if (uid) actions.append(downloadLink(links.file(uid), words), tagsButton(words));
  if (stack.shows === "document") actions.prepend(documentLink(links.document(uid), words));
  message.replaceChildren(heading(title), paragraph(text), actions);
  if (stack.shows === "report") void appendReport(message, links.report(uid));
}

/** The content of a structured report below its heading, unless something else is shown by then. */
async function appendReport(message: HTMLElement, address: string): Promise<void> {
  const shown = message.dataset["shown"];
  const answer = await fetch(address, { headers: { Accept: "text/html" } }).catch(() => undefined);
  if (!answer?.ok) return;
  const report = document.createElement("div");
  report.className = "report";
  report.innerHTML = await answer.text();
  if (message.dataset["shown"] === shown) message.append(report);
}

function reason(problem: { status: number; words: string }, words: Words): string {
  if (problem.status === 0) return say(words, "no_connection");
  return problem.words || say(words, "render_failed", { status: problem.status });
}

function heading(text: string): HTMLElement {
  const element = document.createElement("strong");
  element.textContent = text;
  return element;
}

function paragraph(text: string): HTMLElement {
  const element = document.createElement("p");
  element.textContent = text;
  return element;
}

function downloadLink(address: string, words: Words): HTMLElement {
  const link = document.createElement("a");
  link.className = "tool tool-solid";
  link.href = address;
  link.download = "";
  link.textContent = say(words, "download_object");
  return link;
}

function documentLink(address: string, words: Words): HTMLElement {
  const link = document.createElement("a");
  link.className = "tool tool-solid";
  link.href = address;
  link.target = "_blank";
  link.rel = "noopener";
  link.textContent = say(words, "open_document");
  return link;
}

function tagsButton(words: Words): HTMLElement {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "tool tool-solid";
  button.dataset["action"] = "tags";
  button.textContent = say(words, "show_elements");
  return button;
}

/** The slices that are loaded, as a bar inside the slider's track. */
export function drawLoaded(state: ViewerState): void {
  const canvas = find<HTMLCanvasElement>("[data-loaded]");
  const count = state.frames.length;
  const width = canvas.clientWidth;
  if (count < 2 || !width) return;
  if (canvas.width !== width) canvas.width = width;
  canvas.height = 4;
  const context = canvas.getContext("2d")!;
  context.clearRect(0, 0, width, 4);
  context.fillStyle = "#5d7fc4";
  const step = width / count;
  for (let position = 0; position < count; position += 1) {
    if (state.isLoaded(position)) context.fillRect(position * step, 0, Math.ceil(step), 4);
  }
}
