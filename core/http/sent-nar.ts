/** A NAR file that the proxy before us was about to send, or a range of it. */
export interface SentNar {
  readonly cacheId: string;
  readonly bytes: number;
}

/** No file has a petabyte. */
const LINE = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) (\d{1,15})$/;

/** What the proxy is told with a file's place, to be logged when it sends the file. */
export function printSentNar({ cacheId, bytes }: SentNar): string {
  return `${cacheId} ${bytes}`;
}

/** Null for everything that is not such a line. */
export function parseSentNar(line: string): SentNar | null {
  const [, cacheId, bytes] = LINE.exec(line) ?? [];
  return cacheId !== undefined ? { cacheId, bytes: Number(bytes) } : null;
}
