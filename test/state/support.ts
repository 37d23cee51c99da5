import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describeProblem } from "#core/api/state.ts";
import { concatBytes, toBase64 } from "#core/lib/bytes.ts";
import { generateKeyPair } from "#core/nix/signature.ts";
import { generateSshKey } from "#core/services/ssh-key.ts";
import { type AppliedState, applyState } from "#core/services/state-apply.ts";
import { checkState } from "#core/services/state-check.ts";
import type { StateRules } from "#core/services/state-checks.ts";
import { type SecretKind, secretsOf } from "#core/services/state-secrets.ts";
import type { TestApp } from "#test/handlers/support.ts";

/** A state file's JSON, as loosely typed as somebody writes it. */
// biome-ignore lint/suspicious/noExplicitAny: tests put in whatever may be in a file
export type Json = any;

export const RULES: StateRules = { allowLocalSources: false, mailEnabled: null };
export const WORKER = "550e8400-e29b-41d4-a716-446655440001";
export const BASE_WORKER = "550e8400-e29b-41d4-a716-446655440002";
export const IDENTITY = "550e8400-e29b-41d4-a716-446655440003";
export const ARGON2_HASH =
  "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$uJ8PvWdnS0kT6DcTnfMs3ml8pWn0lqIhWn5CFP3pEKE";

const EVERYTHING = readFileSync(join(import.meta.dirname, "everything.json"), "utf8");

/** A file with everything in it that a file can have. */
export function everything(): Json {
  return JSON.parse(EVERYTHING);
}

const made = new Map<string, Promise<string>>();

/** Right contents for a secret; the same for the same file, always. */
export function secretFor(kind: SecretKind, file: string): Promise<string> {
  const text = made.get(file) ?? makeSecret(kind, file);
  made.set(file, text);
  return text;
}

async function makeSecret(kind: SecretKind, file: string): Promise<string> {
  switch (kind) {
    case "password_hash":
      return ARGON2_HASH;
    case "api_key_hash":
      return createHash("sha256").update(file).digest("hex");
    case "worker_token":
      return randomBytes(48).toString("base64");
    case "ssh_key":
      return (await generateSshKey("test")).secretKey.trim();
    case "signing_key": {
      const { secretKey } = await generateKeyPair("test");
      return toBase64(concatBytes([secretKey.seed, secretKey.publicBytes]));
    }
    case "text":
      return `secret of ${file}`;
  }
}

export interface ApplyOptions {
  readonly deleteUnlisted?: boolean;
  readonly keepEvaluations?: number;
  /** By the path of their file, in place of ones that are made up. */
  readonly secrets?: Readonly<Record<string, string>>;
}

/** Checks the document and applies it to the test's server. Throws with every problem of it. */
export async function apply(
  { deps }: Pick<TestApp, "deps">,
  json: Json,
  { deleteUnlisted = true, keepEvaluations = 5, secrets: given = {} }: ApplyOptions = {},
): Promise<AppliedState> {
  const { document, problems } = checkState(json, RULES);
  if (problems.length > 0) throw new Error(problems.map(describeProblem).join("\n"));
  const secrets = new Map<string, string>();
  for (const { credential, kind, file } of secretsOf(document)) {
    secrets.set(credential, given[file] ?? (await secretFor(kind, file)));
  }
  const stateDeps = { ...deps, projects: { keepEvaluations } };
  return await applyState(stateDeps, { document, secrets, options: { deleteUnlisted } });
}

/** What was done, one line each, sorted. */
export function changesOf({ changes }: AppliedState): string[] {
  return changes.map(({ did, what }) => `${did}: ${what}`).sort();
}

/** Every problem of a document, as the operator reads it. */
export function problemsOf(json: Json, rules: Partial<StateRules> = {}): string[] {
  return checkState(json, { ...RULES, ...rules }).problems.map(describeProblem);
}

/** Which version each row of each table is: a row that was written again, if only with the same, is another one. */
export async function rowVersions({ pool }: Pick<TestApp, "pool">): Promise<Record<string, string[]>> {
  const tables = await pool.query<{ name: string }>(
    "select tablename as name from pg_tables where schemaname = 'public' and tablename not like 'kysely%' order by 1",
  );
  const versions: Record<string, string[]> = {};
  for (const { name } of tables.rows) {
    const { rows } = await pool.query<{ row: string }>(
      `select t.xmin::text || ' ' || t.ctid::text || ' ' || t::text as row from "${name}" t order by 1`,
    );
    versions[name] = rows.map(({ row }) => row);
  }
  return versions;
}
