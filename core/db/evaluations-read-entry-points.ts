import { type Kysely, sql } from "kysely";
import { attemptMs, attemptOfLink, hasProducts, shownBuildStatus } from "./builds-read-expressions.ts";
import type { Database } from "./schema.ts";

export interface EntryPointRow {
  readonly id: string;
  readonly attribute: string[];
  readonly link_id: string;
  readonly build_id: string;
  readonly drv_path: string;
  readonly system: string;
  readonly status: number;
  readonly build_time_ms: number | null;
  readonly has_products: boolean;
  readonly created_at: Date;
}

/** By attribute. */
export async function listEntryPoints(
  db: Kysely<Database>,
  evaluationId: string,
  limit: number,
): Promise<EntryPointRow[]> {
  return await db
    .selectFrom("entry_point")
    .innerJoin("evaluation_build", (join) =>
      join
        .onRef("evaluation_build.evaluation_id", "=", "entry_point.evaluation_id")
        .onRef("evaluation_build.build_id", "=", "entry_point.build_id"),
    )
    .innerJoin("build", "build.id", "entry_point.build_id")
    .leftJoin("attempt", (join) => join.on(attemptOfLink))
    .select([
      "entry_point.id",
      "entry_point.attribute",
      "evaluation_build.id as link_id",
      "entry_point.build_id",
      "build.drv_path",
      "build.system",
      shownBuildStatus.as("status"),
      attemptMs.as("build_time_ms"),
      hasProducts.as("has_products"),
      "entry_point.created_at",
    ])
    .where("entry_point.evaluation_id", "=", evaluationId)
    .orderBy("entry_point.attribute")
    .limit(limit)
    .execute();
}

export interface DependencyCount {
  readonly root_id: string;
  readonly status: number;
  readonly count: number;
}

/**
 * Of each root build, everything that it needs directly or not, counted by the status that the evaluation's links show.
 * Null when the closures together have more than `pairsMax` members: that many are not walked for a page.
 */
export async function countDependencies(
  db: Kysely<Database>,
  evaluationId: string,
  rootIds: readonly string[],
  pairsMax: number,
): Promise<DependencyCount[] | null> {
  if (rootIds.length === 0) return [];
  // A recursive query whose only reader has a limit stops when the limit is reached.
  const { rows } = await sql<DependencyCount & { readonly walked: number }>`
    with recursive closure (root_id, id) as (
      select root.id, root.id from unnest(${rootIds}::uuid[]) as root (id)
      union
      select closure.root_id, build_edge.dependency_id
      from closure join build_edge on build_edge.build_id = closure.id
    ),
    walked as materialized (select root_id, id from closure limit ${pairsMax + 1})
    select walked.root_id, ${shownBuildStatus} as status, count(*)::int as count,
      (select count(*)::int from walked) as walked
    from walked
    join build on build.id = walked.id
    join evaluation_build on evaluation_build.build_id = walked.id and evaluation_build.evaluation_id = ${evaluationId}
    where walked.id <> walked.root_id
    group by walked.root_id, ${shownBuildStatus}
  `.execute(db);
  return (rows[0]?.walked ?? 0) > pairsMax ? null : rows;
}
