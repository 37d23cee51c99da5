import { type Kysely, sql } from "kysely";
import type { OpenAttempt, ProvenWorker } from "#core/db/attempts.ts";
import type { Database } from "#core/db/schema.ts";
import { parseDerivation } from "#core/nix/derivation.ts";
import { parseStorePath, parseStorePathBaseName, type StorePath } from "#core/nix/store-path.ts";

/** An attempt that a session's worker holds, with what it may do under it. */
export interface LeasedAttempt {
  readonly id: string;
  readonly kind: "evaluation" | "build";
  readonly organizationId: string;
  /** A build may upload its own outputs and nothing else. */
  readonly outputs: ReadonlySet<StorePath>;
}

/** The output paths that a derivation states. */
export function outputsOf(aterm: Uint8Array): ReadonlySet<StorePath> {
  const { outputs } = parseDerivation(aterm);
  return new Set(Array.from(outputs.values(), ({ path }) => parseStorePath(path)).filter((path) => path !== null));
}

/** Attempts that a worker goes on with after its session was lost. */
export async function loadLeasedAttempts(
  db: Kysely<Database>,
  attempts: readonly OpenAttempt[],
): Promise<LeasedAttempt[]> {
  const buildIds = attempts.flatMap(({ build_id }) => build_id ?? []);
  const rows = await db
    .selectFrom("build_output")
    .select(["build_id", "store_path"])
    .where("build_id", "=", sql<string>`any(${buildIds})`)
    .execute();
  return attempts.map(({ id, organization_id, build_id }) => {
    const own = rows.filter((row) => row.build_id === build_id);
    const outputs = own.flatMap(({ store_path }) => parseStorePathBaseName(store_path ?? "") ?? []);
    const kind = build_id === null ? "evaluation" : "build";
    return { id, kind, organizationId: organization_id, outputs: new Set(outputs) };
  });
}

/** The attempts that the worker holds by the database, of the organizations it has proved. */
export async function listOpenAttempts(
  db: Kysely<Database>,
  { workerId, organizationIds }: ProvenWorker,
): Promise<Set<string>> {
  const rows = await db
    .selectFrom("attempt")
    .select("id")
    .where("worker_id", "=", workerId)
    .where("organization_id", "=", sql<string>`any(${organizationIds}::uuid[])`)
    .where("finished_at", "is", null)
    .execute();
  return new Set(rows.map(({ id }) => id));
}

/** Why the attempt may not upload the path; null when it may. */
export function refuseUpload(held: LeasedAttempt, target: "source" | "output", path: StorePath): string | null {
  if (target === "source") return held.kind === "evaluation" ? null : "only an evaluation uploads sources";
  return held.outputs.has(path) ? null : `${path} is not an output of the leased build`;
}
