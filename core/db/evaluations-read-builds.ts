import { type Kysely, sql } from "kysely";
import { attemptMs, attemptOfLink, hasProducts, shownBuildStatus, shownUpdatedAt } from "./builds-read-expressions.ts";
import type { Database } from "./schema.ts";

export interface BuildListRow {
  readonly id: string;
  readonly drv_path: string;
  readonly status: number;
  readonly updated_at: Date;
  readonly build_time_ms: number | null;
  readonly has_products: boolean;
}

export interface BuildListQuery {
  readonly limit: number;
  readonly offset: number;
  /** Only this build and what it needs, directly or not. */
  readonly scopeBuildId: string | null;
}

/** Building, waiting, failed, given up, successful; by name within each. */
export async function listEvaluationBuilds(
  db: Kysely<Database>,
  evaluationId: string,
  { limit, offset, scopeBuildId }: BuildListQuery,
): Promise<BuildListRow[]> {
  const rank = sql`case ${shownBuildStatus}
    when 2 then 0 when 1 then 1 when 8 then 1 when 4 then 2 when 9 then 2 when 5 then 3 when 6 then 3 else 4 end`;
  return await scopedLinks(db, evaluationId, scopeBuildId)
    .leftJoin("attempt", (join) => join.on(attemptOfLink))
    .select([
      "evaluation_build.id",
      "build.drv_path",
      shownBuildStatus.as("status"),
      shownUpdatedAt.as("updated_at"),
      attemptMs.as("build_time_ms"),
      hasProducts.as("has_products"),
    ])
    .orderBy(rank)
    .orderBy("build.name")
    .orderBy("build.drv_path")
    .limit(limit)
    .offset(offset)
    .execute();
}

export interface BuildCounts {
  readonly total: number;
  readonly active_count: number;
}

export async function countEvaluationBuilds(
  db: Kysely<Database>,
  evaluationId: string,
  scopeBuildId: string | null,
): Promise<BuildCounts> {
  return await scopedLinks(db, evaluationId, scopeBuildId)
    .select([
      sql<number>`count(*)::int`.as("total"),
      sql<number>`(count(*) filter (where ${shownBuildStatus} in (1, 2, 8)))::int`.as("active_count"),
    ])
    .executeTakeFirstOrThrow();
}

export interface ChangedBuild {
  readonly id: string;
  readonly status: number;
  readonly updated_at: Date;
}

/** The last `limit` links whose build changed at or after `since`, in the order of the changes. */
export async function listChangedBuilds(
  db: Kysely<Database>,
  evaluationId: string,
  since: Date,
  limit: number,
): Promise<ChangedBuild[]> {
  const newestFirst = await db
    .selectFrom("evaluation_build")
    .innerJoin("build", "build.id", "evaluation_build.build_id")
    .select(["evaluation_build.id", shownBuildStatus.as("status"), "build.updated_at"])
    .where("evaluation_build.evaluation_id", "=", evaluationId)
    .where("build.updated_at", ">=", since)
    .orderBy("build.updated_at", "desc")
    .orderBy("evaluation_build.id", "desc")
    .limit(limit)
    .execute();
  return newestFirst.reverse();
}

function scopedLinks(db: Kysely<Database>, evaluationId: string, scopeBuildId: string | null) {
  return db
    .selectFrom("evaluation_build")
    .innerJoin("build", "build.id", "evaluation_build.build_id")
    .innerJoin("evaluation", "evaluation.id", "evaluation_build.evaluation_id")
    .where("evaluation_build.evaluation_id", "=", evaluationId)
    .$if(scopeBuildId !== null, (query) =>
      query.where(
        "build.id",
        "in",
        sql<string>`(
          with recursive closure (id) as (
            select ${scopeBuildId}::uuid
            union
            select build_edge.dependency_id from closure join build_edge on build_edge.build_id = closure.id
          )
          select id from closure
        )`,
      ),
    );
}
