import { type Bytes, concatBytes, utf8 } from "../lib/bytes.ts";
import type { ByteString } from "./byte-string.ts";

/**
 * A NAR is made of strings (u64 little-endian length, bytes, zeros up to a multiple of 8):
 *
 *     nar       = "nix-archive-1" node
 *     node      = "(" "type" ( regular | symlink | directory ) ")"
 *     regular   = "regular" [ "executable" "" ] "contents" <bytes>
 *     symlink   = "symlink" "target" <bytes>
 *     directory = "directory" { "entry" "(" "name" <bytes> "node" node ")" }
 *
 * Entries ascend strictly by the bytes of their names. One tree has exactly one NAR.
 */
export const MAGIC: Bytes = tokens("nix-archive-1");
export const OPEN: Bytes = tokens("(");
export const CLOSE: Bytes = tokens(")");
export const NODE_START: Bytes = tokens("(", "type");
export const REGULAR: Bytes = tokens("regular");
export const EXECUTABLE: Bytes = tokens("executable", "");
export const CONTENTS: Bytes = tokens("contents");
export const SYMLINK: Bytes = tokens("symlink");
export const TARGET: Bytes = tokens("target");
export const DIRECTORY: Bytes = tokens("directory");
export const ENTRY: Bytes = tokens("entry");
export const NAME: Bytes = tokens("(", "name");
export const NODE: Bytes = tokens("node");

/** The length of every token that decides between alternatives, or of its first part. */
export const SHORT_TOKEN_BYTES = 16;

export function paddedLength(length: number): number {
  return length + paddingLength(length);
}

export function paddingLength(length: number): number {
  return (8 - (length % 8)) % 8;
}

export function encodeLength(length: number): Bytes {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  return bytes;
}

/** A string as it stands in a NAR. */
export function encodeString(bytes: Uint8Array): Bytes {
  return concatBytes([encodeLength(bytes.length), bytes, new Uint8Array(paddingLength(bytes.length))]);
}

/** Whether a folder can hold an entry of this name. */
export function isEntryName(name: ByteString): boolean {
  return name !== "" && name !== "." && name !== ".." && !name.includes("/") && !name.includes("\0");
}

function tokens(...texts: readonly string[]): Bytes {
  return concatBytes(texts.map((text) => encodeString(utf8(text))));
}
