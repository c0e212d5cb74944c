/** Storing one file by STOW-RS (PS3.18 10.5), with progress and an answer in words. */
import { say, type Words } from "./words";

export type Outcome = { ok: true } | { ok: false; reason: string };

interface StowAnswer {
  "00081199"?: { Value?: unknown[] };
  "00081198"?: { Value?: Record<string, { Value?: unknown[] }>[] };
  detail?: string;
  title?: string;
}

/** Send `file`; `onProgress` gets the bytes sent since the last call. */
export function store(
  file: File,
  words: Words,
  onProgress: (bytes: number) => void,
  signal: AbortSignal,
): Promise<Outcome> {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const boundary = `part-${crypto.getRandomValues(new Uint32Array(4)).join("")}`;
    let sent = 0;
    const settle = (outcome: Outcome): void => {
      onProgress(file.size - sent);
      resolve(outcome);
    };
    request.upload.onprogress = (event) => {
      const now = Math.min(event.loaded, file.size);
      onProgress(now - sent);
      sent = now;
    };
    request.onload = () => settle(outcomeOf(request, words));
    request.onerror = () => settle({ ok: false, reason: say(words, "upload_no_connection") });
    request.onabort = () => settle({ ok: false, reason: say(words, "upload_cancelled") });
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.open("POST", "/dicom-web/studies");
    request.setRequestHeader("Accept", "application/dicom+json");
    request.setRequestHeader(
      "Content-Type",
      `multipart/related; type="application/dicom"; boundary=${boundary}`,
    );
    request.send(
      new Blob([
        `--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`,
        file,
        `\r\n--${boundary}--\r\n`,
      ]),
    );
  });
}

function outcomeOf(request: XMLHttpRequest, words: Words): Outcome {
  const answer = parse(request.responseText);
  if (request.status === 200 && answer["00081199"]?.Value?.length) return { ok: true };
  return { ok: false, reason: reasonOf(answer, request.status, words) };
}

/** Why it was refused: words for our reason code, else for the failure reason (PS3.18 Table I.2-2). */
function reasonOf(answer: StowAnswer, status: number, words: Words): string {
  const failed = answer["00081198"]?.Value?.[0];
  const [code, ...rest] = String(failed?.["00000902"]?.Value?.[0] ?? "").split(": ");
  if (`upload_${code}` in words) return say(words, `upload_${code}`);
  const failure = Number(failed?.["00081197"]?.Value?.[0] ?? 0).toString(16);
  const known = `upload_${failure}` in words ? `upload_${failure}` : "upload_refused";
  const detail = rest.join(": ") || answer.detail || answer.title || "";
  return `${say(words, known, { status, code: failure })} ${detail}`.trim();
}

function parse(text: string): StowAnswer {
  try {
    return JSON.parse(text) as StowAnswer;
  } catch {
    return {};
  }
}
