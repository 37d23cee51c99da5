import { type Kysely, sql } from "kysely";
import { attemptOfLink } from "./builds-read-expressions.ts";
import type { Database } from "./schema.ts";
import { databaseNowPlus } from "./time.ts";

/** An attempt of one of an evaluation's builds. */
export interface LoggedAttempt {
  readonly id: string;
  /** Of the build. */
  readonly name: string;
  /** It ended, and so long ago that nothing of its log is on its way any more. */
  readonly settled: boolean;
}

/** Longer than a log's last lines take to arrive after the result. */
const SETTLE_MS = 2_000;

const settled = sql<boolean>`coalesce(attempt.finished_at < ${databaseNowPlus(-SETTLE_MS)}, false)`;

/**
 * The attempts whose logs the evaluation's builds show, a page of builds at a time in the order in which those were
 * first found; `next` is what the next page begins after, null behind the last.
 */
export async function pageLoggedAttempts(
  db: Kysely<Database>,
  evaluationId: string,
  { after, limit }: { readonly after: string | null; readonly limit: number },
): Promise<{ readonly attempts: readonly LoggedAttempt[]; readonly next: string | null }> {
  const rows = await db
    .selectFrom("evaluation_build")
    .innerJoin("build", "build.id", "evaluation_build.build_id")
    .leftJoin("attempt", (join) => join.on(attemptOfLink))
    .select(["evaluation_build.build_id", "attempt.id", "build.name", settled.as("settled")])
    .where("evaluation_build.evaluation_id", "=", evaluationId)
    .$if(after !== null, (query) => query.where("evaluation_build.build_id", ">", after as string))
    .orderBy("evaluation_build.build_id")
    .limit(limit)
    .execute();
  const attempts = rows.flatMap(({ id, name, settled }) => (id === null ? [] : [{ id, name, settled }]));
  return { attempts, next: rows.length < limit ? null : (rows.at(-1)?.build_id ?? null) };
}

/** Attempts of the evaluation's builds that were assigned at or after `since`. */
export async function listNewAttempts(
  db: Kysely<Database>,
  evaluationId: string,
  since: Date,
): Promise<LoggedAttempt[]> {
  return await db
    .selectFrom("evaluation_build")
    .innerJoin("build", "build.id", "evaluation_build.build_id")
    .innerJoin("attempt", "attempt.build_id", "evaluation_build.build_id")
    .select(["attempt.id", "build.name", settled.as("settled")])
    .where("evaluation_build.evaluation_id", "=", evaluationId)
    .where("attempt.assigned_at", ">=", since)
    .orderBy("attempt.id")
    .execute();
}

/** How long the logs of these attempts are now. An attempt that is gone is not in the answer. */
export async function listLogLengths(
  db: Kysely<Database>,
  attemptIds: readonly string[],
): Promise<{ readonly id: string; readonly bytes: number; readonly settled: boolean }[]> {
  return await db
    .selectFrom("attempt")
    .select(["id", "log_bytes as bytes", settled.as("settled")])
    .where("id", "=", sql<string>`any(${attemptIds}::uuid[])`)
    .execute();
}
