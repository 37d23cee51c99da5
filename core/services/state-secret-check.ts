import { DomainError } from "../errors.ts";
import { KeyMismatchError, sign } from "../nix/signature.ts";
import { parseSigningKey } from "./state-cache-keys.ts";
import type { SecretKind } from "./state-secrets.ts";
import { publicSshKey, SshKeyError } from "./state-ssh-key.ts";
import { requireWorkerToken } from "./workers.ts";

const TEXT_LENGTH_MAX = 4_096;
/** The parameters in decimal, salt and hash in base64 without padding. */
const PHC_ARGON2 =
  /^\$argon2(?:id|i|d)\$v=\d{1,3}\$m=\d{1,8},t=\d{1,4},p=\d{1,4}\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{16,172}$/;

/** What is wrong with the contents of a secret's file; null when nothing is. The words show nothing of the contents. */
export async function secretProblem(kind: SecretKind, text: string): Promise<string | null> {
  if (text === "") return "is an empty file";
  switch (kind) {
    case "password_hash":
      return PHC_ARGON2.test(text)
        ? null
        : "must hold the hash of the password, which begins with `$argon2`, and not the password itself";
    case "api_key_hash":
      return /^[0-9a-f]{64}$/.test(text)
        ? null
        : "must hold 64 lower-case hex digits: the SHA-256 of the key without its prefix, and not the key itself";
    case "worker_token":
      return wordsOf(() => requireWorkerToken(text));
    case "ssh_key":
      return wordsOf(() => publicSshKey(text));
    case "signing_key":
      return await signingKeyProblem(text);
    case "text":
      // A header of a request carries it.
      return text.length <= TEXT_LENGTH_MAX && /^[\x20-\x7e]+$/.test(text)
        ? null
        : `must hold one line of at most ${TEXT_LENGTH_MAX} printable ASCII characters`;
  }
}

async function signingKeyProblem(text: string): Promise<string | null> {
  const key = parseSigningKey(text, "key");
  if (!key) {
    return "must hold base64 of the 64 bytes of a secret key, or that behind a name as Nix writes it (`name:base64`)";
  }
  try {
    await sign(key, "");
    return null;
  } catch (error) {
    if (error instanceof KeyMismatchError) return "holds two halves that do not belong together";
    throw error;
  }
}

function wordsOf(check: () => unknown): string | null {
  try {
    check();
    return null;
  } catch (error) {
    if (error instanceof SshKeyError) return error.message;
    if (error instanceof DomainError) return error.message.replace(/^token must be/, "must hold");
    throw error;
  }
}
