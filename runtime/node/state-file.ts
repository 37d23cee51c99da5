import { open } from "node:fs/promises";
import { join } from "node:path";
import type { StateDocument, StateProblem } from "#core/api/state.ts";
import { secretProblem } from "#core/services/state-secret-check.ts";
import { type SecretNeed, type StateSecrets, secretsOf } from "#core/services/state-secrets.ts";
import { hasCode } from "./files.ts";

/** Thousands of projects are some megabytes. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;
/** An RSA key of 16 384 bits has 13 000 bytes. */
const SECRET_BYTES_MAX = 64 * 1024;

/** The JSON in a state file. Throws `Error` with words for the operator. */
export async function readStateFile(path: string): Promise<unknown> {
  const text = await readText(path, FILE_BYTES_MAX).catch((error: unknown) => {
    throw new Error(`the state file ${path} cannot be read: ${wordsOf(error)}`);
  });
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new Error(`the state file ${path} is not JSON: ${wordsOf(error)}`);
  }
}

export interface ReadSecrets {
  readonly secrets: StateSecrets;
  readonly problems: readonly StateProblem[];
  /** Those that are at neither place. */
  readonly missing: readonly SecretNeed[];
  /** Those that this user may not read. */
  readonly unreadable: readonly StateProblem[];
}

/** Every secret that the document names: the systemd credential, or else the file. */
export async function readStateSecrets(document: StateDocument, credentialsFolder: string): Promise<ReadSecrets> {
  const secrets = new Map<string, string>();
  const problems: StateProblem[] = [];
  const missing: SecretNeed[] = [];
  const unreadable: StateProblem[] = [];
  for (const need of secretsOf(document)) {
    try {
      const found = (await readSecret(join(credentialsFolder, need.credential))) ?? (await readSecret(need.file));
      if (found === null) {
        missing.push(need);
        continue;
      }
      const text = found.trim();
      const problem = await secretProblem(need.kind, text);
      if (problem !== null) problems.push({ path: need.path, message: problem });
      secrets.set(need.credential, text);
    } catch (error) {
      const isRefused = hasCode(error, "EACCES") || hasCode(error, "EPERM");
      (isRefused ? unreadable : problems).push({ path: need.path, message: `cannot be read: ${wordsOf(error)}` });
    }
  }
  return { secrets, problems, missing, unreadable };
}

/** A secret that should be there by now. */
export function missingSecret({ path, file, credential }: SecretNeed, credentialsFolder: string): StateProblem {
  return {
    path,
    message: `is not there: neither the credential ${join(credentialsFolder, credential)} nor the file ${file} exists`,
  };
}

async function readSecret(path: string): Promise<string | null> {
  try {
    return await readText(path, SECRET_BYTES_MAX);
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return null;
    throw error;
  }
}

/** A file may grow while it is read, and a pipe has no size: what is read is what counts. */
async function readText(path: string, bytesMax: number): Promise<string> {
  await using file = await open(path, "r");
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of file.createReadStream({ autoClose: false }) as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > bytesMax) throw new Error(`it is larger than ${bytesMax} bytes`);
    chunks.push(chunk);
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
}

function wordsOf(error: unknown): string {
  if (error instanceof TypeError) return "it is not UTF-8 text";
  return error instanceof Error ? error.message : String(error);
}
