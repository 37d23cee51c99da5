import { type Bytes, fromBase64, fromHex, toBase64, toHex } from "../lib/bytes.ts";
import { decodeBase32, encodeBase32 } from "./base32.ts";

export type HashAlgorithm = "md5" | "sha1" | "sha256" | "sha512" | "blake3";

/** A digest that has the length of its algorithm. */
export interface Hash {
  readonly algorithm: HashAlgorithm;
  readonly digest: Bytes;
}

export type HashFormat = "nix32" | "hex" | "sri";

const DIGEST_BYTES: Readonly<Record<HashAlgorithm, number>> = { md5: 16, sha1: 20, sha256: 32, sha512: 64, blake3: 32 };

/**
 * Reads `algorithm:digest` (digest in hexadecimal, Nix's base 32 or base 64, told apart by length) and the SRI form
 * `algorithm-base64`. Null for anything else.
 */
export function parseHash(text: string): Hash | null {
  const match = /^(md5|sha1|sha256|sha512|blake3)([:-])([A-Za-z0-9+/=]{1,128})$/.exec(text);
  if (!match) return null;
  const algorithm = match[1] as HashAlgorithm;
  const digest = match[2] === "-" ? fromBase64(match[3] as string) : decodeDigest(match[3] as string, algorithm);
  return digest?.length === DIGEST_BYTES[algorithm] ? { algorithm, digest } : null;
}

/** `sha256:<nix32>`, `sha256:<hex>` or the SRI form `sha256-<base64>`. */
export function formatHash(hash: Hash, format: HashFormat): string {
  switch (format) {
    case "nix32":
      return `${hash.algorithm}:${encodeBase32(hash.digest)}`;
    case "hex":
      return `${hash.algorithm}:${toHex(hash.digest)}`;
    case "sri":
      return `${hash.algorithm}-${toBase64(hash.digest)}`;
  }
}

/** Reads a bare SHA-256 digest of 64 hexadecimal digits, as the daemon sends NAR hashes. Null for anything else. */
export function parseSha256Hex(text: string): Hash | null {
  const digest = text.length === 64 ? fromHex(text) : null;
  return digest ? { algorithm: "sha256", digest } : null;
}

/** Hashes bytes that are in memory already. A stream is hashed by the runtime. */
export async function sha256(bytes: Uint8Array): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Bytes));
}

function decodeDigest(text: string, algorithm: HashAlgorithm): Bytes | null {
  const size = DIGEST_BYTES[algorithm];
  if (text.length === size * 2) return fromHex(text);
  if (text.length === Math.ceil((size * 8) / 5)) return decodeBase32(text);
  return fromBase64(text);
}
