/**
 * Rendered frames from the server: a few requests at a time in the order of need, requests that
 * nobody needs any more are cancelled, decoded images are kept up to a number of pixels.
 */
export interface Failure {
  status: number;
  words: string;
}

export interface FrameStore {
  /** Say what is needed now, most urgent first; everything else under way is cancelled. */
  want(addresses: readonly string[]): void;
  image(address: string): ImageBitmap | undefined;
  failure(address: string): Failure | undefined;
  clear(): void;
}

const PARALLEL = 4;

export function createFrameStore(pixelBudget: number, onChange: (address: string) => void): FrameStore {
  const images = new Map<string, ImageBitmap>();
  const failures = new Map<string, Failure>();
  const running = new Map<string, AbortController>();
  let wanted: readonly string[] = [];
  let pixels = 0;

  const keep = (address: string, image: ImageBitmap): void => {
    images.set(address, image);
    pixels += image.width * image.height;
    const needed = new Set(wanted.slice(0, 12));
    for (const [old, bitmap] of images) {
      if (pixels <= pixelBudget) break;
      if (needed.has(old) || old === address) continue;
      images.delete(old);
      pixels -= bitmap.width * bitmap.height;
      bitmap.close();
    }
  };

  const load = async (address: string): Promise<void> => {
    const abort = new AbortController();
    running.set(address, abort);
    try {
      const answer = await fetch(address, {
        signal: abort.signal,
        headers: { Accept: "image/jpeg, application/problem+json;q=0.5" },
      });
      if (answer.ok) keep(address, await createImageBitmap(await answer.blob()));
      else failures.set(address, { status: answer.status, words: await wordsOf(answer) });
    } catch {
      if (!abort.signal.aborted) failures.set(address, { status: 0, words: "" });
    }
    if (running.get(address) === abort) running.delete(address);
    if (abort.signal.aborted) return;
    onChange(address);
    next();
  };

  const next = (): void => {
    for (const address of wanted) {
      if (running.size >= PARALLEL) return;
      if (!images.has(address) && !failures.has(address) && !running.has(address)) void load(address);
    }
  };

  return {
    want(addresses) {
      wanted = addresses;
      const needed = new Set(addresses);
      for (const [address, abort] of running) {
        if (needed.has(address)) continue;
        running.delete(address);
        abort.abort();
      }
      next();
    },
    image(address) {
      const image = images.get(address);
      if (image) {
        images.delete(address);
        images.set(address, image);
      }
      return image;
    },
    failure: (address) => failures.get(address),
    clear() {
      for (const abort of running.values()) abort.abort();
      for (const image of images.values()) image.close();
      running.clear();
      images.clear();
      failures.clear();
      pixels = 0;
      wanted = [];
    },
  };
}

async function wordsOf(answer: Response): Promise<string> {
  try {
    const problem = (await answer.json()) as { detail?: string; title?: string };
    return problem.detail ?? problem.title ?? "";
  } catch {
    return "";
  }
}

/** Positions around `index` in the order in which they will be needed when moving by `direction`. */
export function neighbours(index: number, count: number, direction: number, most: number, wrap: boolean): number[] {
  const found = [index];
  const ahead = direction < 0 ? -1 : 1;
  const place = (position: number): number | undefined =>
    wrap ? (position + count) % count : position >= 0 && position < count ? position : undefined;
  for (let step = 1; found.length < Math.min(count, most) && step < count; step += 1) {
    const steps = step % 3 === 0 ? [ahead * step, (-ahead * step) / 3] : [ahead * step];
    for (const offset of steps) {
      const position = place(index + offset);
      if (position !== undefined && !found.includes(position)) found.push(position);
    }
  }
  for (let step = 1; found.length < Math.min(count, most) && step < count; step += 1) {
    const position = place(index - ahead * step);
    if (position !== undefined && !found.includes(position)) found.push(position);
  }
  return found;
}
