import { assert } from "./assert.ts";
import { type Bytes, concatBytes, utf8 } from "./bytes.ts";

/** What a tar file says of one entry. Names are bytes: tar knows no character set. */
export interface TarEntry {
  readonly kind: "file" | "directory" | "symlink";
  /** Names with `/` between them. */
  readonly path: Uint8Array;
  readonly executable: boolean;
  /** Bytes of a file's content; 0 for the others. */
  readonly size: number;
  /** Of a link. */
  readonly target: Uint8Array;
}

const BLOCK_BYTES = 512;
const NAME_BYTES_MAX = 100;
/** Eleven octal digits. */
const SIZE_MAX = 8 ** 11 - 1;
const TYPES = { file: "0", symlink: "2", directory: "5" } as const;

/** Two empty blocks end a tar file. */
export const TAR_END: Bytes = new Uint8Array(2 * BLOCK_BYTES);

/**
 * What stands before an entry's content (POSIX.1-2001 pax: an extended header goes ahead where a name or a size does
 * not fit). The same entry gives the same bytes: owner 0, and a second past the epoch as everywhere in a Nix store.
 */
export function tarHeader(entry: TarEntry): Bytes {
  const records: Uint8Array[] = [];
  if (entry.path.length > NAME_BYTES_MAX) records.push(paxRecord("path", entry.path));
  if (entry.target.length > NAME_BYTES_MAX) records.push(paxRecord("linkpath", entry.target));
  if (entry.size > SIZE_MAX) records.push(paxRecord("size", utf8(String(entry.size))));
  const mode = entry.kind === "file" && !entry.executable ? 0o644 : 0o755;
  const header = block({ ...entry, type: TYPES[entry.kind], mode, size: Math.min(entry.size, SIZE_MAX) });
  if (records.length === 0) return header;
  const pax = concatBytes(records);
  const path = utf8("././@PaxHeader");
  const extended = block({ path, target: new Uint8Array(), type: "x", mode: 0o644, size: pax.length });
  return concatBytes([extended, pax, tarPadding(pax.length), header]);
}

/** What stands behind `size` bytes of content. */
export function tarPadding(size: number): Bytes {
  return new Uint8Array((BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES);
}

interface Block {
  readonly path: Uint8Array;
  readonly target: Uint8Array;
  readonly type: string;
  readonly mode: number;
  readonly size: number;
}

function block({ path, target, type, mode, size }: Block): Bytes {
  const bytes = new Uint8Array(BLOCK_BYTES);
  bytes.set(path.subarray(0, NAME_BYTES_MAX), 0);
  bytes.set(utf8(`${octal(mode, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0${octal(size, 11)}\0${octal(1, 11)}\0`), 100);
  bytes.set(utf8(" ".repeat(8)), 148);
  bytes.set(utf8(type), 156);
  bytes.set(target.subarray(0, NAME_BYTES_MAX), 157);
  bytes.set(utf8("ustar\x0000"), 257);
  // The sum counts its own field as eight spaces.
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.set(utf8(`${octal(sum, 6)}\0 `), 148);
  return bytes;
}

function octal(value: number, digits: number): string {
  const text = value.toString(8).padStart(digits, "0");
  assert(text.length === digits, "a number does not fit into its field");
  return text;
}

/** `length key=value\n`, where the length counts its own digits. */
function paxRecord(key: string, value: Uint8Array): Bytes {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length > String(rest).length) length++;
  return concatBytes([utf8(`${length} ${key}=`), value, utf8("\n")]);
}
