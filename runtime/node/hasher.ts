import { createHash } from "node:crypto";
import { createBLAKE3 } from "hash-wasm";
import type { Bytes } from "#core/lib/bytes.ts";
import type { Hasher } from "#core/ports/hasher.ts";
import { notePassing } from "./passing-bytes.ts";

/** Every body that passes through this process is hashed, on its way in and on its way out. */
export const nodeHasher: Hasher = {
  sha256({ reused } = { reused: false }) {
    const hash = createHash("sha256");
    return {
      update(chunk) {
        hash.update(chunk);
        if (!reused) notePassing(chunk.length);
      },
      digest: (): Bytes => new Uint8Array(hash.digest()),
    };
  },
  async blake3() {
    const hash = await createBLAKE3();
    return {
      update: (chunk) => void hash.update(chunk),
      digest: (): Bytes => new Uint8Array(hash.digest("binary")),
    };
  },
};
