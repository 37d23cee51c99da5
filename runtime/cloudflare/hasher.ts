import { createHash } from "node:crypto";
import { DomainError } from "#core/errors.ts";
import type { Bytes } from "#core/lib/bytes.ts";
import type { Hasher } from "#core/ports/hasher.ts";

export const workersHasher: Hasher = {
  sha256() {
    const hash = createHash("sha256");
    return {
      update: (chunk) => void hash.update(chunk),
      digest: (): Bytes => new Uint8Array(hash.digest()),
    };
  },
  async blake3() {
    // Only narinfos of other caches name it, and Workers let no package compile WebAssembly of its own.
    throw new DomainError("service_unavailable", "BLAKE3 is not computed at the edge: ask the server");
  },
};
