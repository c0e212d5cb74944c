/** Window presets by modality, in the values that radiologists use, with keys 1 to 9. */
import type { ImageFacts, Window } from "./metadata";
import { say, type Words } from "./words";

export interface Preset {
  label: string;
  /** null is what the image itself states. */
  window: Window | null;
}

const CT: [string, Window][] = [
  ["preset_lung", { center: -600, width: 1500 }],
  ["preset_mediastinum", { center: 40, width: 400 }],
  ["preset_abdomen", { center: 50, width: 350 }],
  ["preset_bone", { center: 450, width: 1800 }],
  ["preset_brain", { center: 40, width: 80 }],
];

export function presetsFor(modality: string, facts: ImageFacts | undefined, words: Words): Preset[] {
  if (facts?.isColor) return [];
  const presets: Preset[] = [{ label: say(words, "preset_default"), window: null }];
  if (modality === "CT") {
    presets.push(...CT.map(([key, window]) => ({ label: say(words, key), window })));
  } else {
    const others = facts?.windows.slice(1) ?? [];
    presets.push(...others.map((window) => ({ label: window.name || `W ${window.width}`, window })));
  }
  if (facts && modality !== "CT") presets.push({ label: say(words, "preset_full"), window: facts.guess });
  return presets.slice(0, 9);
}
