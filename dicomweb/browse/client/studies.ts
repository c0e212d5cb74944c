/** The study list: search by typing, filters, keys, uploads. Requests themselves are htmx's. */
import "./studies.css";
import { hideBrokenThumbnails } from "./parts/thumbnails";
import { setUpUpload } from "./parts/upload";
import { readWords } from "./parts/words";

const LIVE_REFRESH_MS = 8000;

const form = document.querySelector<HTMLFormElement>("#search")!;
const searchBox = document.querySelector<HTMLInputElement>("#search-text")!;
const customDays = document.querySelector<HTMLElement>("[data-custom-days]")!;
const results = document.querySelector<HTMLElement>("#results")!;

function refresh(): void {
  form.dispatchEvent(new CustomEvent("studies:refresh"));
}

function showCustomDays(): void {
  customDays.hidden = new FormData(form).get("period") !== "custom";
}

/** The search stays in this tab's history entry, so coming back from a study finds it again. */
function remember(): void {
  const fields = [...new FormData(form)].map(([name, value]) => [name, String(value)]);
  history.replaceState({ fields }, "");
}

function recall(): void {
  const fields = (history.state as { fields?: [string, string][] } | null)?.fields;
  if (!fields) return;
  const before = new URLSearchParams([...new FormData(form)] as [string, string][]).toString();
  for (const input of form.elements) {
    if (!(input instanceof HTMLInputElement)) continue;
    const kept = fields.filter(([name]) => name === input.name).map(([, value]) => value);
    if (input.type === "radio" || input.type === "checkbox") input.checked = kept.includes(input.value);
    else input.value = kept[0] ?? "";
  }
  showCustomDays();
  if (new URLSearchParams([...new FormData(form)] as [string, string][]).toString() !== before) {
    window.setTimeout(refresh);
  }
}

function clearSearch(): void {
  form.querySelectorAll<HTMLInputElement>("input").forEach((input) => {
    if (input.type === "checkbox") input.checked = false;
    else if (input.type === "radio") input.checked = input.value === "all";
    else input.value = "";
  });
  showCustomDays();
  remember();
  refresh();
  searchBox.focus();
}

function moveBetweenRows(event: KeyboardEvent): void {
  const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  const active = document.activeElement;
  if (!step || !(active === searchBox || active?.matches(".study-row"))) return;
  const stops: HTMLElement[] = [searchBox, ...document.querySelectorAll<HTMLElement>(".study-row")];
  const next = stops[stops.indexOf(active as HTMLElement) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === "/" && !typing) {
    event.preventDefault();
    searchBox.focus();
    searchBox.select();
  }
  moveBetweenRows(event);
});
document.addEventListener("click", (event) => {
  const target = event.target as Element;
  if (target.closest("[data-clear-search]")) clearSearch();
  for (const open of document.querySelectorAll<HTMLDetailsElement>("details[data-close-outside][open]")) {
    if (!open.contains(target)) open.open = false;
  }
});
form.addEventListener("change", showCustomDays);
form.addEventListener("input", remember);
form.addEventListener("change", remember);

/** While studies arrive, or none is here yet, the first page renews itself, unless further pages were opened below it. */
window.setInterval(() => {
  const live = results.querySelector(".tag-live, .ways");
  const onFirstPage = results.querySelectorAll(".study-row").length <= 30;
  if (live && onFirstPage && !document.hidden && !results.contains(document.activeElement)) refresh();
}, LIVE_REFRESH_MS);

recall();
hideBrokenThumbnails();
setUpUpload(document.querySelector<HTMLElement>("[data-drop-target]")!, readWords(), refresh);
