/** Keys that every page knows: `/` and Ctrl+K search, `?` lists the keys, arrows move between rows. */
import { openDialog } from "./shell";

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.matches("input, textarea, select") || target.isContentEditable);
}

function search(everywhere: boolean): boolean {
  const own = everywhere ? null : document.querySelector<HTMLInputElement>("[data-page-search]");
  const box = own ?? document.querySelector<HTMLInputElement>("#find");
  if (!box || box.offsetParent === null) return false;
  box.focus();
  box.select();
  return true;
}

function moveBetweenRows(event: KeyboardEvent): void {
  const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  if (!step) return;
  const box = document.querySelector<HTMLElement>("[data-page-search]");
  const stops = [box, ...document.querySelectorAll<HTMLElement>(".data tbody .lead > a")].filter((one) => one !== null);
  const here = stops.indexOf(document.activeElement as HTMLElement);
  const next = here < 0 ? undefined : stops[here + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

export function setUpKeys(): void {
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "k") {
      if (search(true)) event.preventDefault();
      return;
    }
    moveBetweenRows(event);
    if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/" && search(false)) event.preventDefault();
    if (event.key === "?" && !document.querySelector("[data-help]")) openDialog("keys");
  });
}
