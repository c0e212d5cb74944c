/** The stack viewer: which frame is shown with which window, and what is loaded around it. */
import { createFrameStore, neighbours } from "./frames";
import { imageFacts, type ImageFacts, type Window } from "./metadata";
import type { Pane } from "./pane";
import { addresses, loadFrames, round, type Addresses, type Frame, type StackInfo } from "./stack";

const PREFETCHED = 48;
const METADATA_DELAY_MS = 120;
const DEFAULT_RATE = 15;

export interface ViewerState {
  stack: StackInfo;
  frames: Frame[];
  index: number;
  frame: Frame | undefined;
  window: Window | null;
  facts: ImageFacts | undefined;
  playing: boolean;
  /** Whether the image of this frame and window is on the screen. */
  isShown: boolean;
  problem: { status: number; words: string } | undefined;
  isLoaded(index: number): boolean;
  links: Addresses;
}

export interface Viewer {
  open(stack: StackInfo): Promise<void>;
  go(index: number): void;
  move(slices: number): void;
  setWindow(window: Window | null): void;
  /** Change the window while dragging: only the newest wish is asked for. */
  dragWindow(dx: number, dy: number): void;
  endDrag(): void;
  play(on: boolean): void;
}

export function createViewer(study: string, pane: Pane, pixelBudget: number, onState: (state: ViewerState) => void): Viewer {
  const facts = new Map<string, ImageFacts>();
  let stack: StackInfo | undefined;
  let links: Addresses | undefined;
  let frames: Frame[] = [];
  let index = 0;
  let direction = 1;
  let window_: Window | null = null;
  let dragging = false;
  let asked = "";
  let playing = 0;
  let metadataTimer = 0;

  const store = createFrameStore(pixelBudget, (address) => {
    if (dragging && address === asked) request();
    show();
  });

  const addressOf = (position: number): string => {
    const frame = frames[position];
    return frame && links ? links.rendered(frame, window_) : "";
  };

  const request = (): void => {
    if (!frames.length || stack?.shape === "object") return;
    if (dragging) {
      const isBusy = asked && !store.image(asked) && !store.failure(asked);
      if (isBusy) return;
      asked = addressOf(index);
      store.want([asked]);
      return;
    }
    const near = neighbours(index, frames.length, direction, PREFETCHED, playing > 0);
    store.want(near.map(addressOf));
  };

  const show = (): void => {
    if (!stack || !links) return;
    const frame = frames[index];
    const image = store.image(addressOf(index)) ?? (dragging ? store.image(asked) : undefined);
    const known = frame && facts.get(frame.uid);
    if (image && frame) {
      const isWhole = Math.abs(image.width / image.height - frame.columns / frame.rows) < 0.01;
      pane.show(image, isWhole ? (known?.pixelAspect ?? 1) : 1);
    }
    onState({
      stack, frames, index, frame, facts: known, links,
      window: window_,
      playing: playing > 0,
      isShown: image !== undefined,
      problem: image ? undefined : store.failure(addressOf(index)),
      isLoaded: (position) => store.image(addressOf(position)) !== undefined,
    });
  };

  const loadFacts = async (frame: Frame): Promise<void> => {
    if (facts.has(frame.uid) || !links) return;
    const answer = await fetch(links.metadata(frame), { headers: { Accept: "application/dicom+json" } }).catch(() => undefined);
    if (!answer?.ok) return;
    const [dataset] = (await answer.json()) as Parameters<typeof imageFacts>[0][];
    if (dataset) facts.set(frame.uid, imageFacts(dataset));
    show();
  };

  const update = (): void => {
    request();
    show();
    const frame = frames[index];
    window.clearTimeout(metadataTimer);
    if (!frame || facts.has(frame.uid)) return;
    metadataTimer = window.setTimeout(() => void loadFacts(frame), facts.size ? METADATA_DELAY_MS : 0);
  };

  const go = (position: number): void => {
    const next = Math.min(frames.length - 1, Math.max(0, position));
    if (next === index || !frames.length) return;
    direction = next > index ? 1 : -1;
    index = next;
    update();
  };

  const currentFacts = (): ImageFacts | undefined => facts.get(frames[index]?.uid ?? "");

  const currentWindow = (): Window => {
    const known = currentFacts();
    return window_ ?? known?.windows[0] ?? known?.guess ?? { center: 128, width: 256 };
  };

  const tick = (dueAt: number): void => {
    if (!playing) return;
    const rate = currentFacts()?.framesPerSecond ?? DEFAULT_RATE;
    const interval = 1000 / Math.min(60, Math.max(1, rate));
    const now = performance.now();
    const following = (index + 1) % frames.length;
    if (now >= dueAt && (store.image(addressOf(following)) || store.failure(addressOf(following)))) {
      index = following;
      direction = 1;
      update();
      dueAt = Math.max(dueAt + interval, now);
    }
    playing = requestAnimationFrame(() => tick(dueAt));
  };

  const play = (on: boolean): void => {
    cancelAnimationFrame(playing);
    playing = 0;
    if (on && frames.length > 1) playing = requestAnimationFrame((now) => tick(now));
    update();
  };

  return {
    async open(next) {
      play(false);
      stack = next;
      links = addresses(study, next);
      frames = [];
      store.clear();
      window_ = null;
      pane.show(undefined, 1);
      pane.setView({ zoom: 1, x: 0, y: 0 });
      show();
      const loaded = await loadFrames(study, next);
      if (stack !== next) return;
      frames = loaded;
      index = next.shape === "images" ? Math.floor((loaded.length - 1) / 2) : 0;
      direction = 1;
      if (next.shape === "object") show();
      else update();
    },
    go(position) {
      if (playing) play(false);
      go(position);
    },
    move(slices) {
      if (playing) play(false);
      go(index + slices);
    },
    setWindow(next) {
      window_ = next;
      update();
    },
    dragWindow(dx, dy) {
      if (currentFacts()?.isColor || !frames.length) return;
      const { center, width } = currentWindow();
      const step = Math.max(width, 1) / 400;
      dragging = true;
      window_ = { center: round(center + dy * step), width: round(Math.max(step, width + dx * step * 1.5)) };
      request();
      show();
    },
    endDrag() {
      if (!dragging) return;
      dragging = false;
      asked = "";
      update();
    },
    play,
  };
}
