import { assert } from "../lib/assert.ts";
import { type Bytes, concatBytes, fromBase64, utf8 } from "../lib/bytes.ts";
import { type RandomBytes, systemRandom } from "../lib/ids.ts";

/** The row a secret belongs to. It is authenticated with the secret, so a value copied to another row does not open. */
export interface SecretPlace {
  readonly table: string;
  readonly column: string;
  readonly id: string;
}

/**
 * Secrets at rest. A sealed value is one version byte, a 12-byte random nonce, and the AES-256-GCM ciphertext with its
 * 16-byte tag (NIST SP 800-38D).
 */
export interface SecretBox {
  seal(place: SecretPlace, secret: Uint8Array): Promise<Bytes>;
  /** Throws `SecretBoxError` when the value was not sealed for this place under this crypt secret. */
  open(place: SecretPlace, sealed: Uint8Array): Promise<Bytes>;
}

export class SecretBoxError extends Error {
  override readonly name = "SecretBoxError";
}

const VERSION = 1;
const NONCE_LENGTH = 12;
const TAG_LENGTH = 16;
const CRYPT_SECRET_MIN_LENGTH = 16;

/** Derives the key once (HKDF-SHA-256). `cryptSecret` is the output of `parseCryptSecret`. */
export async function createSecretBox(cryptSecret: Bytes, random: RandomBytes = systemRandom): Promise<SecretBox> {
  assert(cryptSecret.length >= CRYPT_SECRET_MIN_LENGTH, "the crypt secret was parsed before");
  const material = await crypto.subtle.importKey("raw", cryptSecret, "HKDF", false, ["deriveKey"]);
  const derivation = {
    name: "HKDF",
    hash: "SHA-256",
    salt: utf8("gradient"),
    info: utf8("secrets at rest, version 1"),
  };
  const algorithm = { name: "AES-GCM", length: 256 };
  const key = await crypto.subtle.deriveKey(derivation, material, algorithm, false, ["encrypt", "decrypt"]);
  return {
    async seal(place, secret) {
      const nonce = random(new Uint8Array(NONCE_LENGTH));
      const parameters = { name: "AES-GCM", iv: nonce, additionalData: associatedData(place) };
      const ciphertext = await crypto.subtle.encrypt(parameters, key, Uint8Array.from(secret));
      return concatBytes([Uint8Array.of(VERSION), nonce, new Uint8Array(ciphertext)]);
    },
    async open(place, sealed) {
      const where = `${place.table}.${place.column} of ${place.id}`;
      if (sealed.length < 1 + NONCE_LENGTH + TAG_LENGTH || sealed[0] !== VERSION) {
        throw new SecretBoxError(`the secret in ${where} has a form that this version does not know`);
      }
      const iv = Uint8Array.from(sealed.subarray(1, 1 + NONCE_LENGTH));
      const ciphertext = Uint8Array.from(sealed.subarray(1 + NONCE_LENGTH));
      const parameters = { name: "AES-GCM", iv, additionalData: associatedData(place) };
      try {
        return new Uint8Array(await crypto.subtle.decrypt(parameters, key, ciphertext));
      } catch (cause) {
        throw new SecretBoxError(`the secret in ${where} does not open: was the crypt secret changed?`, { cause });
      }
    },
  };
}

/**
 * The contents of the crypt secret file: used as they are when 16 bytes or longer, otherwise decoded as base64. Throws
 * `SecretBoxError` when neither gives 16 bytes.
 */
export function parseCryptSecret(contents: Bytes): Bytes {
  if (contents.length >= CRYPT_SECRET_MIN_LENGTH) return contents;
  const decoded = fromBase64(new TextDecoder().decode(contents).trim());
  if (decoded && decoded.length >= CRYPT_SECRET_MIN_LENGTH) return decoded;
  throw new SecretBoxError(`the crypt secret is shorter than ${CRYPT_SECRET_MIN_LENGTH} bytes`);
}

function associatedData({ table, column, id }: SecretPlace): Bytes {
  return utf8(JSON.stringify([table, column, id]));
}
