/** What the viewer needs from an instance's DICOM JSON metadata (PS3.18 F). */
export interface Window {
  center: number;
  width: number;
}

export interface NamedWindow extends Window {
  name: string;
}

export interface ImageFacts {
  windows: NamedWindow[];
  /** The range of stored values after rescaling, where no window is stated. */
  guess: Window;
  isColor: boolean;
  /** Height of a pixel divided by its width. */
  pixelAspect: number;
  location: number | undefined;
  thickness: number | undefined;
  /** Letters for the edges of the image: left, right, top, bottom; '' where unknown. */
  edges: [string, string, string, string];
  framesPerSecond: number | undefined;
}

type Element = { Value?: unknown[] };
type Dataset = Record<string, Element | undefined>;

function numbers(dataset: Dataset, tag: string): number[] {
  return (dataset[tag]?.Value ?? []).map(Number).filter(Number.isFinite);
}

function items(dataset: Dataset, tag: string): Dataset[] {
  return (dataset[tag]?.Value ?? []) as Dataset[];
}

/** The data set with the first shared or per-frame functional group (PS3.3 C.7.6.16) spread over it. */
function withFunctionalGroups(dataset: Dataset): Dataset {
  const merged: Dataset = { ...dataset };
  const groups = [...items(dataset, "52009230").slice(0, 1), ...items(dataset, "52009229").slice(0, 1)];
  for (const group of groups) {
    for (const macro of Object.keys(group)) Object.assign(merged, items(group, macro)[0] ?? {});
  }
  return merged;
}

export function imageFacts(metadata: Dataset): ImageFacts {
  const dataset = withFunctionalGroups(metadata);
  const spacing = [...numbers(dataset, "00280030"), ...numbers(dataset, "00181164")];
  const ratio = numbers(dataset, "00280034");
  const [across, down] = spacing.length >= 2 ? [spacing[1]!, spacing[0]!] : [ratio[1] ?? 1, ratio[0] ?? 1];
  return {
    windows: windowsOf(dataset),
    guess: guessedWindow(dataset),
    isColor: (numbers(dataset, "00280002")[0] ?? 1) > 1,
    pixelAspect: across > 0 && down > 0 ? down / across : 1,
    location: numbers(dataset, "00201041")[0] ?? numbers(dataset, "00200032")[2],
    thickness: numbers(dataset, "00180050")[0],
    edges: edgesOf(numbers(dataset, "00200037"), dataset["00200020"]?.Value),
    framesPerSecond: frameRate(dataset),
  };
}

function windowsOf(dataset: Dataset): NamedWindow[] {
  const widths = numbers(dataset, "00281051");
  const names = dataset["00281055"]?.Value ?? [];
  return numbers(dataset, "00281050")
    .map((center, index) => ({ center, width: widths[index] ?? 0, name: String(names[index] ?? "") }))
    .filter((window) => window.width > 0);
}

function guessedWindow(dataset: Dataset): Window {
  const bits = numbers(dataset, "00280101")[0] ?? 8;
  const signed = numbers(dataset, "00280103")[0] === 1;
  const slope = numbers(dataset, "00281053")[0] ?? 1;
  const intercept = numbers(dataset, "00281052")[0] ?? 0;
  const low = numbers(dataset, "00280106")[0] ?? (signed ? -(2 ** (bits - 1)) : 0);
  const high = numbers(dataset, "00280107")[0] ?? (signed ? 2 ** (bits - 1) : 2 ** bits) - 1;
  const width = Math.max(1, Math.abs((high - low) * slope));
  return { center: ((low + high) / 2) * slope + intercept, width };
}

function frameRate(dataset: Dataset): number | undefined {
  const rate = numbers(dataset, "00082144")[0] ?? numbers(dataset, "00180040")[0];
  const interval = numbers(dataset, "00181063")[0];
  return rate || (interval ? 1000 / interval : undefined);
}

/** Edge letters from the image orientation (PS3.3 C.7.6.2.1.1), else from the patient orientation. */
function edgesOf(cosines: number[], stated: unknown[] | undefined): [string, string, string, string] {
  if (cosines.length === 6) {
    const right = direction(cosines.slice(0, 3));
    const bottom = direction(cosines.slice(3));
    return [opposite(right), right, opposite(bottom), bottom];
  }
  const [right, bottom] = (stated ?? []).map(String);
  if (!right || !bottom) return ["", "", "", ""];
  return [opposite(right), right, opposite(bottom), bottom];
}

function direction(cosine: number[]): string {
  return cosine
    .map((value, axis) => ({ size: Math.abs(value), letter: (value > 0 ? "LPH" : "RAF")[axis]! }))
    .filter(({ size }) => size > 0.35)
    .sort((one, other) => other.size - one.size)
    .slice(0, 2)
    .map(({ letter }) => letter)
    .join("");
}

function opposite(letters: string): string {
  const pairs: Record<string, string> = { L: "R", R: "L", A: "P", P: "A", H: "F", F: "H" };
  return [...letters].map((letter) => pairs[letter] ?? "").join("");
}
