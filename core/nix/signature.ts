import { type Bytes, concatBytes, equalBytes, fromBase64, fromHex, toBase64, utf8 } from "../lib/bytes.ts";
import { formatHash, type Hash } from "./hash.ts";
import type { StorePath } from "./store-path.ts";

/** What Nix lists in `trusted-public-keys`. */
export interface PublicKey {
  readonly name: string;
  readonly bytes: Bytes;
}

/** A secret: it must not reach a log or an answer. The public half is part of it. */
export interface SecretKey {
  readonly name: string;
  readonly seed: Bytes;
  readonly publicBytes: Bytes;
}

export interface KeyPair {
  readonly secretKey: SecretKey;
  readonly publicKey: PublicKey;
}

/** What a signature of a path covers. Compression and file do not matter. */
export interface SignedFacts {
  readonly storePath: StorePath;
  readonly narHash: Hash;
  readonly narSize: number;
  readonly references: readonly StorePath[];
}

/** The two halves of a secret key do not belong together. */
export class KeyMismatchError extends Error {
  override readonly name = "KeyMismatchError";
}

/** `CryptoKey`, whose name is declared differently for browsers and for Node. */
type ImportedKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

const ALGORITHM = "Ed25519";
const SEED_BYTES = 32;
const PUBLIC_BYTES = 32;
const SIGNATURE_BYTES = 64;
/** PKCS#8 of an Ed25519 key up to the seed (RFC 8410 section 7): WebCrypto takes no bare seed. */
const PKCS8_PREFIX = fromHex("302e020100300506032b657004220420") as Bytes;

/** Importing a key costs more than a signature; the imported one lives as long as the parsed one. */
const signingKeys = new WeakMap<SecretKey, Promise<ImportedKey>>();
const verifyingKeys = new WeakMap<PublicKey, Promise<ImportedKey>>();

/** Reads `name:base64` of 32 bytes. Null for anything else. */
export function parsePublicKey(text: string): PublicKey | null {
  const parts = splitNamed(text, PUBLIC_BYTES);
  return parts && { name: parts.name, bytes: parts.bytes };
}

/** Reads `name:base64` of 64 bytes (seed, then public key), as `nix-store --generate-binary-cache-key` writes it. */
export function parseSecretKey(text: string): SecretKey | null {
  const parts = splitNamed(text, SEED_BYTES + PUBLIC_BYTES);
  return (
    parts && { name: parts.name, seed: parts.bytes.slice(0, SEED_BYTES), publicBytes: parts.bytes.slice(SEED_BYTES) }
  );
}

export function formatPublicKey(key: PublicKey): string {
  return `${key.name}:${toBase64(key.bytes)}`;
}

export function formatSecretKey(key: SecretKey): string {
  return `${key.name}:${toBase64(concatBytes([key.seed, key.publicBytes]))}`;
}

export function publicKeyOf(key: SecretKey): PublicKey {
  return { name: key.name, bytes: key.publicBytes };
}

/** Whether a key may be called so: what stands before the colon, in one word. */
export function isKeyName(text: string): boolean {
  return /^[!-9;-~]{1,255}$/.test(text);
}

/** A new random key. `name` must pass `isKeyName`; else `TypeError`. */
export async function generateKeyPair(name: string): Promise<KeyPair> {
  if (!isKeyName(name))
    throw new TypeError("a key's name is 1 to 255 printable ASCII characters without space and colon");
  const pair = (await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"])) as {
    privateKey: ImportedKey;
    publicKey: ImportedKey;
  };
  const pkcs8 = new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey));
  const publicBytes = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  const secretKey = { name, seed: pkcs8.slice(-SEED_BYTES), publicBytes };
  return { secretKey, publicKey: publicKeyOf(secretKey) };
}

/** `1;path;sha256:nix32;size;reference,reference` with full paths, sorted. */
export function fingerprint({ storePath, narHash, narSize, references }: SignedFacts): string {
  const sorted = [...new Set(references)].sort().join(",");
  return `1;${storePath};${formatHash(narHash, "nix32")};${narSize};${sorted}`;
}

/** `name:base64`, the value of a narinfo's `Sig`. Throws `KeyMismatchError` when the key contradicts itself. */
export async function sign(key: SecretKey, signedText: string): Promise<string> {
  const signature = await crypto.subtle.sign(ALGORITHM, await signingKey(key), utf8(signedText));
  return `${key.name}:${toBase64(new Uint8Array(signature))}`;
}

/** False for a signature by another name, of another form, by another key or of another text. */
export async function verify(key: PublicKey, signedText: string, signature: string): Promise<boolean> {
  const parts = splitNamed(signature, SIGNATURE_BYTES);
  if (parts?.name !== key.name) return false;
  return crypto.subtle.verify(ALGORITHM, await verifyingKey(key), parts.bytes, utf8(signedText));
}

function signingKey(key: SecretKey): Promise<ImportedKey> {
  let imported = signingKeys.get(key);
  if (!imported) {
    imported = importSigningKey(key);
    signingKeys.set(key, imported);
  }
  return imported;
}

/** Signing under a seed whose public half is another one would make signatures that nobody can verify. */
async function importSigningKey({ seed, publicBytes, name }: SecretKey): Promise<ImportedKey> {
  const pkcs8 = concatBytes([PKCS8_PREFIX, seed]);
  const imported = await crypto.subtle.importKey("pkcs8", pkcs8, ALGORITHM, true, ["sign"]);
  const { x = "" } = (await crypto.subtle.exportKey("jwk", imported)) as { x?: string };
  const derived = fromBase64(`${x.replaceAll("-", "+").replaceAll("_", "/")}=`);
  if (!derived || !equalBytes(derived, publicBytes)) {
    throw new KeyMismatchError(`the secret key ${name} holds a public key that does not belong to its seed`);
  }
  return imported;
}

function verifyingKey(key: PublicKey): Promise<ImportedKey> {
  let imported = verifyingKeys.get(key);
  if (!imported) {
    imported = crypto.subtle.importKey("raw", key.bytes, ALGORITHM, false, ["verify"]);
    verifyingKeys.set(key, imported);
  }
  return imported;
}

function splitNamed(text: string, byteCount: number): { name: string; bytes: Bytes } | null {
  const colon = text.indexOf(":");
  const name = text.slice(0, colon);
  if (colon < 1 || text.length > 512 || !isKeyName(name)) return null;
  const bytes = fromBase64(text.slice(colon + 1));
  return bytes?.length === byteCount ? { name, bytes } : null;
}
