import { type Kysely, sql } from "kysely";
import { BuildStatus, FAILED_BUILD } from "../domain/states.ts";
import { attemptOfLink, shownBuildStatus, shownUpdatedAt } from "./builds-read-expressions.ts";
import type { Database } from "./schema.ts";
import type { AttemptMetrics } from "./tables/build-results.ts";
import { databaseNow } from "./time.ts";

/** A link between an evaluation and a build, with what its owner is decided by. */
export interface BuildLink {
  readonly id: string;
  readonly evaluation_id: string;
  readonly build_id: string;
  readonly organization_id: string;
  readonly drv_path: string;
  readonly name: string;
  readonly system: string;
  /** As the link shows it: a number of `BuildStatus` without Created. */
  readonly status: number;
  readonly created_at: Date;
  readonly updated_at: Date;
}

export async function findBuildLink(db: Kysely<Database>, id: string): Promise<BuildLink | undefined> {
  return await links(db).where("evaluation_build.id", "=", id).executeTakeFirst();
}

export async function listBuildOutputs(
  db: Kysely<Database>,
  buildId: string,
): Promise<{ readonly name: string; readonly store_path: string | null }[]> {
  return await db
    .selectFrom("build_output")
    .select(["name", "store_path"])
    .where("build_id", "=", buildId)
    .orderBy("name")
    .execute();
}

/** The outputs of several builds, by name within each. */
export async function listOutputsOfBuilds(
  db: Kysely<Database>,
  buildIds: readonly string[],
): Promise<{ readonly build_id: string; readonly name: string; readonly store_path: string | null }[]> {
  return await db
    .selectFrom("build_output")
    .select(["build_id", "name", "store_path"])
    .where("build_id", "=", sql<string>`any(${buildIds}::uuid[])`)
    .orderBy("build_id")
    .orderBy("name")
    .execute();
}

/** What the build of a link needs directly, as links of the same evaluation, by name. */
export async function listDependencyLinks(
  db: Kysely<Database>,
  link: Pick<BuildLink, "evaluation_id" | "build_id">,
  limit: number,
): Promise<BuildLink[]> {
  return await links(db)
    .innerJoin("build_edge", "build_edge.dependency_id", "evaluation_build.build_id")
    .where("build_edge.build_id", "=", link.build_id)
    .where("evaluation_build.evaluation_id", "=", link.evaluation_id)
    .orderBy("build.name")
    .orderBy("evaluation_build.id")
    .limit(limit)
    .execute();
}

/** What of the direct dependencies failed in the link's evaluation, those that failed by themselves first. */
export async function listFailedDependencies(
  db: Kysely<Database>,
  link: Pick<BuildLink, "evaluation_id" | "build_id">,
  limit: number,
): Promise<BuildLink[]> {
  return await links(db)
    .innerJoin("build_edge", "build_edge.dependency_id", "evaluation_build.build_id")
    .where("build_edge.build_id", "=", link.build_id)
    .where("evaluation_build.evaluation_id", "=", link.evaluation_id)
    .where(shownBuildStatus, "in", [...FAILED_BUILD])
    .orderBy(sql`${shownBuildStatus} = ${BuildStatus.DependencyFailed}`)
    .orderBy("build.name")
    .limit(limit)
    .execute();
}

export interface AttemptOfLink extends AttemptMetrics {
  readonly id: string;
  readonly worker_id: string;
  readonly finished_at: Date | null;
  readonly log_bytes: number;
  readonly log_lines: number;
  /** Why it failed. */
  readonly message: string | null;
}

const METRIC_COLUMNS = [
  "attempt.build_ms",
  "attempt.cpu_user_ms",
  "attempt.cpu_system_ms",
  "attempt.peak_memory_bytes",
  "attempt.io_read_bytes",
  "attempt.io_write_bytes",
] as const;

/** The attempt that the ended evaluation saw, else the newest one of the build. Undefined before the first. */
export async function findAttemptOfLink(db: Kysely<Database>, linkId: string): Promise<AttemptOfLink | undefined> {
  return await db
    .selectFrom("evaluation_build")
    .innerJoin("attempt", (join) => join.on(attemptOfLink))
    .select(["attempt.id", "attempt.worker_id", "attempt.finished_at", "attempt.log_bytes", "attempt.log_lines"])
    .select(["attempt.message", ...METRIC_COLUMNS])
    .where("evaluation_build.id", "=", linkId)
    .executeTakeFirst();
}

/** The database's clock now: what rows that are written later are compared with. */
export async function readDatabaseTime(db: Kysely<Database>): Promise<Date> {
  const { now } = await db.selectNoFrom(databaseNow.as("now")).executeTakeFirstOrThrow();
  return now;
}

function links(db: Kysely<Database>) {
  return db
    .selectFrom("evaluation_build")
    .innerJoin("build", "build.id", "evaluation_build.build_id")
    .innerJoin("evaluation", "evaluation.id", "evaluation_build.evaluation_id")
    .select([
      "evaluation_build.id",
      "evaluation_build.evaluation_id",
      "evaluation_build.build_id",
      "evaluation.organization_id",
      "build.drv_path",
      "build.name",
      "build.system",
      "evaluation_build.created_at",
      shownBuildStatus.as("status"),
      shownUpdatedAt.as("updated_at"),
    ]);
}
