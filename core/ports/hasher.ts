import type { Bytes } from "../lib/bytes.ts";

/** Incremental hashing; `crypto.subtle` hashes only what is whole in memory. */
export interface Hasher {
  /** `reused`: the chunks are memory that is used again and makes no garbage, which runtimes may want to know. */
  sha256(options?: { readonly reused: boolean }): IncrementalHash;
  /** 32 bytes. What it needs may have to be loaded first. */
  blake3(): Promise<IncrementalHash>;
}

export interface IncrementalHash {
  update(chunk: Uint8Array): void;
  /** Ends the hash; call it once. */
  digest(): Bytes;
}
