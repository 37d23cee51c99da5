import { concatBytes, utf8 } from "#core/lib/bytes.ts";

function word(text: string | Uint8Array): Uint8Array {
  const bytes = typeof text === "string" ? utf8(text) : text;
  const made = new Uint8Array(8 + Math.ceil(bytes.length / 8) * 8);
  new DataView(made.buffer).setBigUint64(0, BigInt(bytes.length), true);
  made.set(bytes, 8);
  return made;
}

const words = (...texts: (string | Uint8Array)[]): Uint8Array => concatBytes(texts.map(word));

/** A NAR of a folder whose files may have names that no file can have. */
export function tree(...files: readonly (readonly [name: string, content: string])[]): Uint8Array {
  const entries = files.flatMap(([name, content]) => [
    ...["entry", "(", "name", name, "node", "(", "type", "regular", "contents", content, ")", ")"],
  ]);
  return words("nix-archive-1", "(", "type", "directory", ...entries, ")");
}

/** Folders in folders. */
export function nested(depth: number): Uint8Array {
  const begin = Array.from({ length: depth }, () => [
    "(",
    "type",
    "directory",
    "entry",
    "(",
    "name",
    "a",
    "node",
  ]).flat();
  const end = Array.from({ length: 2 * depth }, () => ")");
  return words("nix-archive-1", ...begin, "(", "type", "regular", "contents", "x", ")", ...end);
}

/** The beginning of a file of that size. */
export function narStart(size: number): Uint8Array {
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(size), true);
  return concatBytes([words("nix-archive-1", "(", "type", "regular", "contents"), length]);
}
