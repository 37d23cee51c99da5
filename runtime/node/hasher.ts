import { createHash } from "node:crypto";
import { createBLAKE3 } from "hash-wasm";
import type { Bytes } from "#core/lib/bytes.ts";
import type { Hasher } from "#core/ports/hasher.ts";

export const nodeHasher: Hasher = {
  sha256() {
    const hash = createHash("sha256");
    return {
      update: (chunk) => void hash.update(chunk),
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
