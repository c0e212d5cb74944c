/** A stack: the frames that one tile of the series strip opens, with their addresses. */
import type { Window } from "./metadata";

export interface StackInfo {
  series: string;
  key: string;
  shape: "images" | "frames" | "object";
  modality: string;
  label: string;
  number: string;
  kind: string;
  explanation: string;
  shows: "" | "report" | "document";
}

export interface Frame {
  uid: string;
  frame: number;
  number: number | null;
  rows: number;
  columns: number;
}

interface Member {
  uid: string;
  number: number | null;
  frames: number;
  rows: number;
  columns: number;
}

/** Larger images are asked for at this many pixels a side: more than a screen has. */
const LARGEST_SIDE = 2560;

export function stackInfo(tile: HTMLElement): StackInfo {
  const { series, stack, shape, modality, label, number, kind, explanation, shows } = tile.dataset;
  return {
    series: series ?? "",
    key: stack ?? "",
    shape: (shape ?? "images") as StackInfo["shape"],
    modality: modality ?? "",
    label: label ?? "",
    number: number ?? "",
    kind: kind ?? "",
    explanation: explanation ?? "",
    shows: (shows ?? "") as StackInfo["shows"],
  };
}

export async function loadFrames(study: string, stack: StackInfo): Promise<Frame[]> {
  const answer = await fetch(`/studies/${study}/series/${stack.series}/stacks/${stack.key}`, {
    headers: { Accept: "application/json" },
  });
  if (!answer.ok) throw new Error(String(answer.status));
  const members = (await answer.json()) as Member[];
  return members.flatMap(({ frames, ...rest }) =>
    Array.from({ length: frames }, (_, index) => ({ ...rest, frame: index + 1 })),
  );
}

export interface Addresses {
  rendered(frame: Frame, window: Window | null): string;
  metadata(frame: Frame): string;
  elements(uid: string): string;
  file(uid: string): string;
  report(uid: string): string;
  document(uid: string): string;
}

export function addresses(study: string, stack: StackInfo): Addresses {
  const series = `studies/${study}/series/${stack.series}`;
  return {
    rendered(frame, window) {
      const query = new URLSearchParams();
      if (window) query.set("window", `${round(window.center)},${round(window.width)},linear`);
      if (Math.max(frame.rows, frame.columns) > LARGEST_SIDE) {
        query.set("viewport", `${LARGEST_SIDE},${LARGEST_SIDE}`);
      }
      const asked = query.size ? `?${query.toString().replaceAll("%2C", ",")}` : "";
      return `/dicom-web/${series}/instances/${frame.uid}/frames/${frame.frame}/rendered${asked}`;
    },
    metadata: (frame) => `/dicom-web/${series}/instances/${frame.uid}/metadata`,
    elements: (uid) => `/${series}/instances/${uid}/elements`,
    file: (uid) => `/${series}/instances/${uid}/download`,
    report: (uid) => `/${series}/instances/${uid}/report`,
    document: (uid) => `/${series}/instances/${uid}/document`,
  };
}

export function round(value: number): number {
  return Math.abs(value) >= 10 ? Math.round(value) : Math.round(value * 1000) / 1000;
}
