import type { Kysely } from "kysely";
import { insertCache } from "#core/db/caches.ts";
import { appendLog, findLogPosition } from "#core/db/log-chunks.ts";
import type { Database } from "#core/db/schema.ts";
import { AttemptKind, AttemptOutcome, BuildStatus, EvaluationStatus } from "#core/domain/states.ts";
import { uuidV4, uuidV7 } from "#core/lib/ids.ts";

// Rows as tests want them: whatever is not the point has a value that does no harm.

type Db = Kysely<Database>;

export const COMMIT = "1f0c8e3a5d7b9f2468ace13579bdf02468ace135";

export function newId(): string {
  return uuidV7(Date.now());
}

export interface OrganizationOptions {
  readonly name: string;
  readonly public?: boolean;
  readonly managed?: boolean;
  /** Role ids by user id. */
  readonly members?: Readonly<Record<string, string>>;
}

export async function insertOrganization(db: Db, { members = {}, ...options }: OrganizationOptions): Promise<string> {
  const id = newId();
  const display = { display_name: options.name, description: "", ssh_public_key: "", ssh_secret_key: new Uint8Array() };
  await db
    .insertInto("organization")
    .values({ id, ...display, ...options })
    .execute();
  for (const [user_id, role_id] of Object.entries(members)) {
    await db.insertInto("organization_member").values({ organization_id: id, user_id, role_id }).execute();
  }
  return id;
}

/** A cache that the organization is subscribed to; mode 0 reads and writes. */
export async function insertCacheOf(
  db: Db,
  organizationId: string,
  { mode = 0, active = true }: { readonly mode?: number; readonly active?: boolean } = {},
): Promise<string> {
  const id = newId();
  const keys = { public_key: "", secret_key: new Uint8Array() };
  await insertCache(db, { id, name: `cache-${id}`, display_name: "Cache", description: "", active, ...keys });
  await db
    .insertInto("organization_cache")
    .values({ id: newId(), organization_id: organizationId, cache_id: id, mode })
    .execute();
  return id;
}

export interface ProjectOptions {
  readonly organizationId: string;
  readonly name?: string;
  readonly repository?: string;
  readonly managed?: boolean;
}

export async function insertProjectRow(db: Db, { organizationId, ...options }: ProjectOptions): Promise<string> {
  const id = newId();
  await db
    .insertInto("project")
    .values({
      id,
      organization_id: organizationId,
      name: "site",
      display_name: "Site",
      description: "",
      repository: "https://example.com/site.git",
      wildcard: "packages.*.*",
      ...options,
    })
    .execute();
  return id;
}

export interface EvaluationOptions {
  readonly organizationId: string;
  readonly projectId: string;
  readonly status?: number;
  readonly commitMessage?: string;
  readonly repository?: string;
}

export async function insertEvaluationRow(db: Db, options: EvaluationOptions): Promise<string> {
  const id = newId();
  await db
    .insertInto("evaluation")
    .values({
      id,
      organization_id: options.organizationId,
      project_id: options.projectId,
      repository: options.repository ?? "https://example.com/site.git",
      commit_hash: COMMIT,
      commit_message: options.commitMessage ?? "",
      wildcard: "packages.*.*",
      status: options.status ?? EvaluationStatus.Building,
    })
    .execute();
  return id;
}

export interface BuildOptions {
  readonly organizationId: string;
  readonly name: string;
  readonly status?: number;
  /** Ids of builds. */
  readonly needs?: readonly string[];
}

export async function insertBuild(
  db: Db,
  { organizationId, name, status = BuildStatus.Created, needs = [] }: BuildOptions,
): Promise<string> {
  const id = newId();
  const drv_path = `${name}-${id}.drv`;
  await db
    .insertInto("build")
    .values({ id, organization_id: organizationId, drv_path, name, system: "x86_64-linux", status })
    .execute();
  await db
    .insertInto("build_output")
    .values({ build_id: id, name: "out", store_path: `${name}-${id}` })
    .execute();
  for (const dependency_id of needs) {
    await db
      .insertInto("build_edge")
      .values({ build_id: id, dependency_id, outputs: ["out"] })
      .execute();
  }
  return id;
}

/** What the API calls a build. */
export async function linkBuild(
  db: Db,
  evaluationId: string,
  buildId: string,
  seen: { readonly outcome?: number; readonly attemptId?: string } = {},
): Promise<string> {
  const id = newId();
  await db
    .insertInto("evaluation_build")
    .values({
      id,
      evaluation_id: evaluationId,
      build_id: buildId,
      outcome: seen.outcome ?? null,
      attempt_id: seen.attemptId ?? null,
    })
    .execute();
  return id;
}

export async function insertEntryPoint(
  db: Db,
  evaluationId: string,
  buildId: string,
  attribute: string[],
): Promise<string> {
  const id = newId();
  await db
    .insertInto("entry_point")
    .values({ id, evaluation_id: evaluationId, build_id: buildId, attribute })
    .execute();
  return id;
}

/** An attempt of a build that runs, or that ended after `ranMs`. */
export async function insertAttempt(
  db: Db,
  { organizationId, buildId, ranMs }: { organizationId: string; buildId: string; ranMs?: number },
): Promise<string> {
  const id = newId();
  const assigned = new Date();
  await db
    .insertInto("attempt")
    .values({
      id,
      kind: AttemptKind.Build,
      organization_id: organizationId,
      build_id: buildId,
      worker_id: uuidV4(),
      assigned_at: assigned,
      started_at: assigned,
      lease_expires_at: new Date(assigned.getTime() + 60_000),
      ...(ranMs !== undefined && {
        finished_at: new Date(assigned.getTime() + ranMs),
        outcome: AttemptOutcome.Built,
      }),
    })
    .execute();
  return id;
}

export async function endAttempt(db: Db, id: string): Promise<void> {
  await db
    .updateTable("attempt")
    .set({ finished_at: new Date(), outcome: AttemptOutcome.Built })
    .where("id", "=", id)
    .execute();
}

/** One row of the log for each part, as the hub writes them. */
export async function writeLogRows(db: Db, attemptId: string, ...parts: readonly Uint8Array[]): Promise<void> {
  for (const data of parts) {
    const position = await findLogPosition(db, attemptId);
    const lines = data.reduce((count, byte) => count + (byte === 0x0a ? 1 : 0), 0);
    if (!position || !(await appendLog(db, attemptId, position, { data, lines }))) {
      throw new Error("the log of a test has one writer");
    }
  }
}
