import { type Kysely, sql } from "kysely";
import { EvaluationKind } from "../domain/states.ts";
import { shownBuildStatus } from "./builds-read-expressions.ts";
import type { Database } from "./schema.ts";

export interface BadgeEvaluation {
  readonly id: string;
  readonly status: number;
  /** Of its entry points, those that were built, and all. */
  readonly built: number;
  readonly entry_points: number;
}

/** The newest evaluation of the project's own state: what pull requests propose does not count. */
export async function findBadgeEvaluation(
  db: Kysely<Database>,
  projectId: string,
): Promise<BadgeEvaluation | undefined> {
  return await db
    .selectFrom((query) =>
      query
        .selectFrom("evaluation")
        .select(["id", "status"])
        .where("project_id", "=", projectId)
        .where("kind", "=", EvaluationKind.Normal)
        .where("trusted", "=", true)
        .where(sql<boolean>`trigger_type is distinct from 2`)
        .orderBy("ordinal", "desc")
        .limit(1)
        .as("last"),
    )
    .leftJoin("entry_point", "entry_point.evaluation_id", "last.id")
    .leftJoin("evaluation_build", (join) =>
      join
        .onRef("evaluation_build.evaluation_id", "=", "entry_point.evaluation_id")
        .onRef("evaluation_build.build_id", "=", "entry_point.build_id"),
    )
    .leftJoin("build", "build.id", "entry_point.build_id")
    .select([
      "last.id",
      "last.status",
      sql<number>`(count(*) filter (where ${shownBuildStatus} in (3, 7)))::int`.as("built"),
      sql<number>`count(entry_point.id)::int`.as("entry_points"),
    ])
    .groupBy(["last.id", "last.status"])
    .executeTakeFirst();
}

/** The status that the entry point's build shows in the evaluation. */
export async function findEntryPointStatus(
  db: Kysely<Database>,
  evaluationId: string,
  attribute: readonly string[],
): Promise<number | undefined> {
  const row = await db
    .selectFrom("entry_point")
    .innerJoin("evaluation_build", (join) =>
      join
        .onRef("evaluation_build.evaluation_id", "=", "entry_point.evaluation_id")
        .onRef("evaluation_build.build_id", "=", "entry_point.build_id"),
    )
    .innerJoin("build", "build.id", "entry_point.build_id")
    .select(shownBuildStatus.as("status"))
    .where("entry_point.evaluation_id", "=", evaluationId)
    .where(sql<boolean>`entry_point.attribute = ${attribute}::text[]`)
    .executeTakeFirst();
  return row?.status;
}
