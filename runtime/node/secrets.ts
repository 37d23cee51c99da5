import { randomBytes } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Bytes } from "#core/lib/bytes.ts";
import { parseCryptSecret } from "#core/services/secret-box.ts";
import { parseJwtSecret, type SecretFiles } from "./config/secret-files.ts";
import { hasCode, writeFileAtomically } from "./files.ts";

export interface Secrets {
  readonly jwt: Bytes;
  readonly crypt: Bytes;
}

/**
 * The operator's secrets, and for those that are not given ones of our own, kept in `folder` (mode 0600) and made only
 * with `mayMake`: a new crypt secret beside an existing database could open nothing in it.
 */
export async function loadSecrets(given: SecretFiles, folder: string, mayMake: boolean): Promise<Secrets> {
  return {
    jwt: given.jwt ?? parseJwtSecret(await kept(folder, "jwt", mayMake)),
    crypt: given.crypt ?? parseCryptSecret(await kept(folder, "crypt", mayMake)),
  };
}

async function kept(folder: string, name: string, mayMake: boolean): Promise<Bytes> {
  const path = join(folder, name);
  try {
    return Uint8Array.from(await readFile(path));
  } catch (error) {
    if (!hasCode(error, "ENOENT")) throw error;
  }
  if (!mayMake) {
    throw new Error(
      `${path} is missing, but there is a database that was used with it. Restore the file from a backup, or name ` +
        `the secret with GRADIENT_${name.toUpperCase()}_SECRET_FILE`,
    );
  }
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const secret = randomBytes(48).toString("base64");
  await writeFileAtomically(path, `${secret}\n`, 0o600);
  return new TextEncoder().encode(`${secret}\n`);
}
