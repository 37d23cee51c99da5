import { type Kysely, sql } from "kysely";
import { EvaluationKind, EvaluationStatus } from "../domain/states.ts";
import { attemptMs, attemptOfLink, shownBuildStatus } from "./builds-read-expressions.ts";
import type { Database } from "./schema.ts";

export interface MeasuredEvaluation {
  readonly id: string;
  readonly created_at: Date;
  readonly eval_time_ms: number | null;
  /** Of all builds that it saw run. */
  readonly build_time_total_ms: number;
}

/** The newest completed evaluations of a project, newest first. */
export async function listMeasuredEvaluations(
  db: Kysely<Database>,
  projectId: string,
  limit: number,
): Promise<MeasuredEvaluation[]> {
  return await db
    .selectFrom("evaluation")
    .innerJoinLateral(
      (expression) =>
        expression
          .selectFrom("evaluation_build")
          .innerJoin("attempt", (join) => join.on(attemptOfLink))
          .select(sql<number>`coalesce(sum(${attemptMs}), 0)::float8`.as("build_time_total_ms"))
          .whereRef("evaluation_build.evaluation_id", "=", "evaluation.id")
          .as("took"),
      (join) => join.onTrue(),
    )
    .select([
      "evaluation.id",
      "evaluation.created_at",
      "took.build_time_total_ms",
      sql<number | null>`abs(extract(epoch from evaluation.building_started_at - coalesce(
        evaluation.fetch_started_at, evaluation.eval_flake_started_at)) * 1000)::float8`.as("eval_time_ms"),
    ])
    .where("evaluation.project_id", "=", projectId)
    .where("evaluation.status", "=", EvaluationStatus.Completed)
    .where("evaluation.kind", "=", EvaluationKind.Normal)
    .orderBy("evaluation.ordinal", "desc")
    .limit(limit)
    .execute();
}

/** Builds of the entry points of these evaluations. */
export async function listEntryPointBuilds(
  db: Kysely<Database>,
  evaluationIds: readonly string[],
): Promise<{ readonly key: string; readonly build_id: string }[]> {
  if (evaluationIds.length === 0) return [];
  return await db
    .selectFrom("entry_point")
    .select(["evaluation_id as key", "build_id"])
    .where("evaluation_id", "in", evaluationIds)
    .execute();
}

export interface EntryPointBuild {
  readonly evaluation_id: string;
  /** What the API calls the build. */
  readonly link_id: string;
  readonly build_id: string;
  readonly created_at: Date;
  readonly status: number;
  readonly build_time_ms: number | null;
}

/** What became of one attribute in the project's newest evaluations that have it, newest first. */
export async function listBuildsOfEntryPoint(
  db: Kysely<Database>,
  projectId: string,
  { attribute, limit }: { readonly attribute: readonly string[]; readonly limit: number },
): Promise<EntryPointBuild[]> {
  return await db
    .selectFrom("evaluation")
    .innerJoin("entry_point", (join) =>
      join
        .onRef("entry_point.evaluation_id", "=", "evaluation.id")
        .on(sql<boolean>`entry_point.attribute = ${attribute}::text[]`),
    )
    .innerJoin("evaluation_build", (join) =>
      join
        .onRef("evaluation_build.evaluation_id", "=", "entry_point.evaluation_id")
        .onRef("evaluation_build.build_id", "=", "entry_point.build_id"),
    )
    .innerJoin("build", "build.id", "entry_point.build_id")
    .leftJoin("attempt", (join) => join.on(attemptOfLink))
    .select([
      "evaluation.id as evaluation_id",
      "evaluation_build.id as link_id",
      "build.id as build_id",
      "evaluation.created_at",
      shownBuildStatus.as("status"),
      attemptMs.as("build_time_ms"),
    ])
    .where("evaluation.project_id", "=", projectId)
    .where("evaluation.kind", "=", EvaluationKind.Normal)
    .orderBy("evaluation.ordinal", "desc")
    .limit(limit)
    .execute();
}
