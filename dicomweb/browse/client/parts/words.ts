/** Words of the page in its language, written by the server as JSON into `#words`. */
export type Words = Record<string, string>;

export function readWords(): Words {
  return JSON.parse(document.getElementById("words")?.textContent ?? "{}") as Words;
}

/** The word for `key` with its `{placeholders}` filled. */
export function say(words: Words, key: string, fields: Record<string, string | number> = {}): string {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name: string) =>
    name in fields ? String(fields[name]) : whole,
  );
}
