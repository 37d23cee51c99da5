import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  fingerprint,
  formatPublicKey,
  formatSecretKey,
  generateKeyPair,
  KeyMismatchError,
  parseSecretKey,
  publicKeyOf,
  type SecretKey,
  type SignedFacts,
  sign,
} from "#core/nix/signature.ts";
import { makeFolder } from "./folders.ts";

/** Signs what this worker uploads, with a key that never leaves it. */
export interface Signer {
  /** `name:base64`, for `trusted-public-keys`. */
  readonly publicKey: string;
  /** `name:base64`, as in a narinfo. */
  sign(facts: SignedFacts): Promise<string>;
}

/** The worker has to sign and has no usable key. The message says where and what to do. */
export class SigningKeyError extends Error {
  override readonly name = "SigningKeyError";
}

const KEY_FILE = "signing-key";
const OPTION = "GRADIENT_WORKER_SIGNING_KEY_FILE";

/**
 * The key in `file`, or the worker's own in its data folder, which is made at the first start: readable for its user
 * alone, and named after the worker. Throws `SigningKeyError`: a new key in place of a damaged one would be one that
 * nobody trusts.
 */
export async function loadSigner(place: {
  readonly file: string | null;
  readonly dataDir: string;
  readonly workerId: string;
}): Promise<Signer> {
  const path = place.file ?? join(place.dataDir, KEY_FILE);
  const text = await readIfThere(path);
  if (text !== null) return await signerOf(path, text);
  if (place.file !== null) {
    throw new SigningKeyError(
      `${path} is not there: write a key with \`nix-store --generate-binary-cache-key NAME ${path} PUBLIC-FILE\`, or ` +
        `leave ${OPTION} out and the worker makes its own`,
    );
  }
  const { secretKey } = await generateKeyPair(`gradient-worker-${place.workerId}`);
  await writeNew(path, `${formatSecretKey(secretKey)}\n`);
  return signer(secretKey);
}

async function signerOf(path: string, text: string): Promise<Signer> {
  const key = parseSecretKey(text.trim());
  if (!key) {
    throw new SigningKeyError(
      `${path} holds no secret key (name:base64 of 64 bytes, as \`nix-store --generate-binary-cache-key\` writes it)`,
    );
  }
  try {
    // A key that contradicts itself is found now and not at the first upload.
    await sign(key, "");
  } catch (error) {
    if (!(error instanceof KeyMismatchError)) throw error;
    throw new SigningKeyError(`${path}: ${error.message}`, { cause: error });
  }
  return signer(key);
}

function signer(key: SecretKey): Signer {
  return { publicKey: formatPublicKey(publicKeyOf(key)), sign: (facts) => sign(key, fingerprint(facts)) };
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw new SigningKeyError(`${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/** After a crash the file is whole or not there. */
async function writeNew(path: string, content: string): Promise<void> {
  const temporary = `${path}.${process.pid}.new`;
  try {
    await makeFolder(dirname(path), 0o700);
    await rm(temporary, { force: true });
    {
      await using file = await open(temporary, "wx", 0o600);
      await file.writeFile(content);
      await file.sync();
    }
    await rename(temporary, path);
    await using folder = await open(dirname(path), "r");
    await folder.sync();
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw new SigningKeyError(
      `the worker's signing key cannot be kept in ${path} (${messageOf(error)}): make the folder writable for this ` +
        `user, or name a key in ${OPTION}`,
      { cause: error },
    );
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
