import type { Compression } from "../ports/codec.ts";

/** What a NAR begins with: the length of a name and the name. */
const NAR_START = [13, 0, 0, 0, 0, 0, 0, 0, ..."nix-archive-1"].map((part) =>
  typeof part === "number" ? part : part.charCodeAt(0),
);

/** How the files begin; brotli's begin with nothing of their own. */
const STARTS: readonly (readonly [Exclude<Compression, "br">, readonly number[]])[] = [
  ["none", NAR_START],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["gzip", [0x1f, 0x8b, 0x08]],
  ["bzip2", [0x42, 0x5a, 0x68]],
];

/** What of a file has to be known to tell its compression. */
export const START_BYTES: number = NAR_START.length;

/** What a file is compressed with, by its first `START_BYTES`. What begins like none of the others may be brotli. */
export function compressionOf(start: Uint8Array): Compression {
  return STARTS.find(([, known]) => beginsWith(start, known))?.[0] ?? "br";
}

/** Whether these are the first `START_BYTES` of a NAR. */
export function isNarStart(start: Uint8Array): boolean {
  return beginsWith(start, NAR_START);
}

function beginsWith(start: Uint8Array, known: readonly number[]): boolean {
  return start.length >= known.length && known.every((byte, index) => start[index] === byte);
}
