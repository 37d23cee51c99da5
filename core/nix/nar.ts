import type { ByteString } from "./byte-string.ts";

/**
 * A NAR as a walk through its tree, parents before what they hold. Names and link targets are byte strings
 * (`byte-string.ts`); the root's name is empty.
 */
export type NarEvent =
  | { readonly kind: "directory"; readonly name: ByteString }
  /** Ends the innermost directory that is open. */
  | { readonly kind: "directoryEnd" }
  /** `content` events of `size` bytes in all follow. `offset`: where in the NAR the content starts. */
  | NarFile
  /** A part of the file before it; never empty, and a view into the chunk that was read. */
  | { readonly kind: "content"; readonly bytes: Uint8Array }
  | { readonly kind: "symlink"; readonly name: ByteString; readonly target: ByteString };

export interface NarFile {
  readonly kind: "file";
  readonly name: ByteString;
  readonly executable: boolean;
  readonly size: number;
  readonly offset: number;
}

/** The bytes are no NAR, or one beyond the limits. */
export class NarParseError extends Error {
  override readonly name = "NarParseError";
  /** Where in the NAR the offending token starts. */
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(`NAR: ${message} (at byte ${offset})`);
    this.offset = offset;
  }
}

export interface NarLimits {
  /** Directories inside of each other. */
  readonly depthMax: number;
  readonly nameBytesMax: number;
  readonly targetBytesMax: number;
  /** Files, directories and links in all. */
  readonly entriesMax: number;
}

/** What Linux can hold: names of 255 bytes, targets of 4095, and paths of 4096, which bounds the depth. */
export const NAR_LIMITS: NarLimits = {
  depthMax: 2048,
  nameBytesMax: 255,
  targetBytesMax: 4095,
  entriesMax: 10_000_000,
};
