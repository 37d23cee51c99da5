import { DomainError } from "../errors.ts";
import { equalBytes } from "../lib/bytes.ts";
import type { ByteStream } from "../lib/streams.ts";
import { formatHash, type Hash } from "../nix/hash.ts";
import { validateNar } from "../nix/nar-reader.ts";
import type { Hasher } from "../ports/hasher.ts";

export interface NarFacts {
  readonly narHash: Hash;
  readonly narSize: number;
}

/**
 * Passes a NAR through and throws in the place of its end unless it is a NAR of exactly this hash and size. More bytes
 * than announced are refused as they come, so a small file that unpacks to terabytes costs nothing. Throws
 * `DomainError` for a wrong hash or size, `NarParseError` for what is no NAR.
 */
export async function* checkedNar(hasher: Hasher, body: ByteStream, expected: NarFacts): AsyncGenerator<Uint8Array> {
  const hash = hasher.sha256();
  let size = 0;
  for await (const chunk of validateNar(body)) {
    size += chunk.length;
    if (size > expected.narSize) {
      throw refused(`the NAR is larger than the ${expected.narSize} bytes that were announced`);
    }
    hash.update(chunk);
    yield chunk;
  }
  if (size !== expected.narSize) throw refused(`the NAR has ${size} bytes, announced were ${expected.narSize}`);
  requireDigest("the NAR", hash.digest(), expected.narHash);
}

/** Throws `DomainError` that names both hashes. */
export function requireDigest(what: string, digest: Hash["digest"], expected: Hash): void {
  if (equalBytes(digest, expected.digest)) return;
  const got = formatHash({ algorithm: "sha256", digest }, "nix32");
  throw refused(`${what} has the hash ${got}, announced was ${formatHash(expected, "nix32")}`);
}

export function refused(message: string, cause?: unknown): DomainError {
  return new DomainError("unprocessable_entity", message, { cause });
}
