/** The study page: series strip, image pane with its tools, keys, overlay and elements. */
import "./study.css";
import { createElementsPanel } from "./parts/elements";
import { listen, type Tool } from "./parts/gestures";
import { createPane } from "./parts/pane";
import { presetsFor, type Preset } from "./parts/presets";
import { drawLoaded, showState } from "./parts/surroundings";
import { stackInfo } from "./parts/stack";
import { hideBrokenThumbnails } from "./parts/thumbnails";
import { createViewer, type ViewerState } from "./parts/viewer";
import { readWords, say } from "./parts/words";

function find<T extends Element = HTMLElement>(selector: string): T {
  return document.querySelector<T>(selector)!;
}

const words = readWords();
const study = find("[data-study]").dataset["study"]!;
const paneElement = find("[data-pane]");
const slider = find<HTMLInputElement>("[data-slider]");
const viewerElement = find("[data-viewer]");
const tiles = [...document.querySelectorAll<HTMLElement>("[data-stack]")];
const elements = createElementsPanel(find("[data-elements]"), say(words, "elements_failed"));
const pixelBudget = matchMedia("(pointer: coarse)").matches ? 24_000_000 : 72_000_000;

let tool: Tool = "scroll";
let presets: Preset[] = [];
let presetsOf = "";
let last: ViewerState | undefined;

const pane = createPane(find<HTMLCanvasElement>("[data-canvas]"), () => last && showState(last, pane, words));
const viewer = createViewer(study, pane, pixelBudget, (state) => {
  last = state;
  slider.max = String(Math.max(1, state.frames.length));
  slider.value = String(state.index + 1);
  showState(state, pane, words);
  drawLoaded(state);
  showPresets(state);
  if (state.frame) elements.follow(state.links.elements(state.frame.uid));
});

function showPresets(state: ViewerState): void {
  const signature = `${state.stack.key} ${state.facts ? JSON.stringify(state.facts.windows) : ""} ${state.facts?.isColor}`;
  if (signature !== presetsOf) {
    presetsOf = signature;
    presets = state.stack.shape === "object" ? [] : presetsFor(state.stack.modality, state.facts, words);
    find("[data-presets]").replaceChildren(...presets.map(presetButton));
  }
  const chosen = presets.findIndex(({ window }) => JSON.stringify(window) === JSON.stringify(state.window));
  find("[data-presets]")
    .querySelectorAll("button")
    .forEach((button, index) => button.setAttribute("aria-pressed", String(index === chosen)));
}

function presetButton(preset: Preset, index: number): HTMLElement {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "tool preset";
  button.textContent = preset.label;
  const values = preset.window ? `W ${preset.window.width} L ${preset.window.center} ` : "";
  button.title = `${values}(${index + 1})`;
  button.addEventListener("click", () => viewer.setWindow(preset.window));
  return button;
}

function choose(tile: HTMLElement): void {
  for (const other of tiles) other.setAttribute("aria-pressed", String(other === tile));
  tile.scrollIntoView({ block: "nearest", inline: "nearest" });
  const stack = stackInfo(tile);
  viewer.open(stack).catch(() => {
    const message = find("[data-message]");
    message.hidden = false;
    message.textContent = say(words, "stack_failed");
  });
}

function chooseNext(step: number): void {
  const at = tiles.findIndex((tile) => tile.getAttribute("aria-pressed") === "true");
  const next = tiles[at + step];
  if (next) choose(next);
}

function setTool(next: Tool): void {
  tool = next;
  paneElement.dataset["tool"] = next;
  for (const button of document.querySelectorAll<HTMLElement>("[data-tool]:is(button)")) {
    button.setAttribute("aria-pressed", String(button.dataset["tool"] === next));
  }
}

function press(name: string, on: boolean): void {
  find(`[data-action="${name}"][aria-pressed]`).setAttribute("aria-pressed", String(on));
}

function toggleFullScreen(): void {
  if (document.fullscreenElement) void document.exitFullscreen();
  else if (viewerElement.requestFullscreen) void viewerElement.requestFullscreen();
  else viewerElement.classList.toggle("is-full");
}

function reset(): void {
  pane.setView({ zoom: 1, x: 0, y: 0 });
  viewer.setWindow(null);
}

const actions: Record<string, () => void> = {
  play: () => viewer.play(!last?.playing),
  reset,
  full: toggleFullScreen,
  help: () => find<HTMLDialogElement>("[data-help]").showModal(),
  tags: () => press("tags", elements.toggle()),
  overlay: () => press("overlay", !viewerElement.classList.toggle("is-bare")),
};

const keys: Record<string, () => void> = {
  ArrowUp: () => viewer.move(-1),
  ArrowLeft: () => viewer.move(-1),
  ArrowDown: () => viewer.move(1),
  ArrowRight: () => viewer.move(1),
  PageUp: () => viewer.move(-10),
  PageDown: () => viewer.move(10),
  Home: () => viewer.go(0),
  End: () => viewer.go(Number.MAX_SAFE_INTEGER),
  " ": () => actions["play"]!(),
  "+": () => zoomCentre(1.25),
  "=": () => zoomCentre(1.25),
  "-": () => zoomCentre(0.8),
  "0": reset,
  "[": () => chooseNext(-1),
  "]": () => chooseNext(1),
  "?": () => actions["help"]!(),
  s: () => setTool("scroll"),
  w: () => setTool("window"),
  p: () => setTool("pan"),
  z: () => setTool("zoom"),
  t: () => actions["tags"]!(),
  i: () => actions["overlay"]!(),
  f: toggleFullScreen,
};

function zoomCentre(factor: number): void {
  const box = paneElement.getBoundingClientRect();
  pane.zoomAt(factor, box.left + box.width / 2, box.top + box.height / 2);
}

document.addEventListener("keydown", (event) => {
  const target = event.target as Element;
  if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, dialog[open]")) return;
  if (event.key === " " && target.closest("button, a")) return;
  const preset = presets[Number(event.key) - 1];
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act && !preset) return;
  event.preventDefault();
  if (act) act();
  else if (preset) viewer.setWindow(preset.window);
});
document.addEventListener("click", (event) => {
  const button = (event.target as Element).closest<HTMLElement>("[data-action], button[data-tool], [data-stack], [data-back]");
  if (!button) return;
  const { action, tool: wanted } = button.dataset;
  if (action) actions[action]?.();
  else if (wanted) setTool(wanted as Tool);
  else if (button.dataset["stack"]) choose(button);
  else if (new URL(document.referrer || location.href).pathname === "/studies" && history.length > 1) {
    event.preventDefault();
    history.back();
  }
});
slider.addEventListener("input", () => viewer.go(Number(slider.value) - 1));

listen(paneElement, {
  tool: () => tool,
  pixelsPerSlice: () => Math.min(18, Math.max(2, paneElement.clientHeight / (2 * Math.max(1, last?.frames.length ?? 1)))),
  scroll: (slices) => viewer.move(slices),
  window: (dx, dy) => viewer.dragWindow(dx, dy),
  windowEnd: () => viewer.endDrag(),
  pan: (dx, dy) => pane.moveBy(dx, dy),
  zoom: (factor, x, y) => pane.zoomAt(factor, x, y),
  reset,
});

hideBrokenThumbnails();
setTool("scroll");
if (tiles[0]) choose(tiles.find((tile) => tile.dataset["shape"] !== "object") ?? tiles[0]);
