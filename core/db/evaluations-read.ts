import { type Kysely, type RawBuilder, sql } from "kysely";
import { shownBuildStatus } from "./builds-read-expressions.ts";
import type { Database, EvaluationMessageTable, EvaluationRow } from "./schema.ts";

/** What every read of an evaluation needs first: whose it is, and whether it goes on. */
export type EvaluationOwner = Pick<EvaluationRow, "id" | "organization_id" | "project_id" | "status" | "updated_at">;

export async function findEvaluationOwner(db: Kysely<Database>, id: string): Promise<EvaluationOwner | undefined> {
  return await db
    .selectFrom("evaluation")
    .select(["id", "organization_id", "project_id", "status", "updated_at"])
    .where("id", "=", id)
    .executeTakeFirst();
}

export async function findEvaluationCommit(
  db: Kysely<Database>,
  id: string,
): Promise<Pick<EvaluationRow, "id" | "status" | "commit_hash"> | undefined> {
  return await db
    .selectFrom("evaluation")
    .select(["id", "status", "commit_hash"])
    .where("id", "=", id)
    .executeTakeFirst();
}

export type RecentEvaluation = Pick<EvaluationRow, "id" | "project_id" | "status" | "updated_at">;

/** The newest of a project, the newest first. */
export async function listRecentEvaluations(
  db: Kysely<Database>,
  projectId: string,
  limit: number,
): Promise<RecentEvaluation[]> {
  return await db
    .selectFrom("evaluation")
    .select(["id", "project_id", "status", "updated_at"])
    .where("project_id", "=", projectId)
    .orderBy("ordinal", "desc")
    .limit(limit)
    .execute();
}

export interface EvaluationDetail
  extends Pick<
    EvaluationRow,
    | "id"
    | "project_id"
    | "repository"
    | "commit_hash"
    | "wildcard"
    | "status"
    | "waiting_reason"
    | "organization_id"
    | "priority"
    | "failure"
    | "trigger_id"
    | "trigger_type"
    | "branch"
    | "created_at"
    | "updated_at"
  > {
  readonly project_name: string;
  readonly project_display_name: string;
  readonly previous: string | null;
  readonly next: string | null;
  readonly triggered_by: string | null;
  readonly error_count: number;
  readonly warning_count: number;
}

/** Previous and next are those of the same project in evaluation order. */
export async function findEvaluationDetail(db: Kysely<Database>, id: string): Promise<EvaluationDetail | undefined> {
  return await db
    .selectFrom("evaluation")
    .innerJoin("project", "project.id", "evaluation.project_id")
    .leftJoin("user_account", "user_account.id", "evaluation.started_by")
    .select([
      "evaluation.id",
      "evaluation.project_id",
      "evaluation.repository",
      "evaluation.commit_hash",
      "evaluation.wildcard",
      "evaluation.status",
      "evaluation.waiting_reason",
      "evaluation.organization_id",
      "evaluation.priority",
      "evaluation.failure",
      "evaluation.trigger_id",
      "evaluation.trigger_type",
      "evaluation.branch",
      "evaluation.created_at",
      "evaluation.updated_at",
      "project.name as project_name",
      "project.display_name as project_display_name",
      "user_account.username as triggered_by",
      neighbour("previous").as("previous"),
      neighbour("next").as("next"),
      messageCount(0).as("error_count"),
      messageCount(1).as("warning_count"),
    ])
    .where("evaluation.id", "=", id)
    .executeTakeFirst();
}

export interface EvaluationSummaryRow
  extends Pick<
    EvaluationRow,
    | "id"
    | "commit_hash"
    | "commit_message"
    | "status"
    | "trigger_id"
    | "trigger_type"
    | "branch"
    | "created_at"
    | "updated_at"
  > {
  readonly triggered_by: string | null;
  readonly errors: number;
  readonly warnings: number;
  readonly completed: number;
  readonly failed: number;
  readonly building: number;
  readonly queued: number;
  readonly substituted: number;
  readonly aborted: number;
}

/** The newest evaluations of a project, newest first, with their builds counted by the status each of them shows. */
export async function listEvaluationSummaries(
  db: Kysely<Database>,
  projectId: string,
  limit: number,
): Promise<EvaluationSummaryRow[]> {
  const counted = (...statuses: readonly number[]) =>
    sql<number>`(count(*) filter (where ${shownBuildStatus} in (${sql.join(statuses)})))::int`;
  return await db
    .selectFrom("evaluation")
    .leftJoin("user_account", "user_account.id", "evaluation.started_by")
    .innerJoinLateral(
      (expression) =>
        expression
          .selectFrom("evaluation_build")
          .innerJoin("build", "build.id", "evaluation_build.build_id")
          .select([
            counted(3).as("completed"),
            counted(4, 6, 9).as("failed"),
            counted(2).as("building"),
            counted(1, 8).as("queued"),
            counted(7).as("substituted"),
            counted(5).as("aborted"),
          ])
          .whereRef("evaluation_build.evaluation_id", "=", "evaluation.id")
          .as("counts"),
      (join) => join.onTrue(),
    )
    .select([
      "evaluation.id",
      "evaluation.commit_hash",
      "evaluation.commit_message",
      "evaluation.status",
      "evaluation.trigger_id",
      "evaluation.trigger_type",
      "evaluation.branch",
      "evaluation.created_at",
      "evaluation.updated_at",
      "user_account.username as triggered_by",
      messageCount(0).as("errors"),
      messageCount(1).as("warnings"),
    ])
    .selectAll("counts")
    .where("evaluation.project_id", "=", projectId)
    .orderBy("evaluation.ordinal", "desc")
    .limit(limit)
    .execute();
}

export type EvaluationMessageRow = Pick<EvaluationMessageTable, "id" | "level" | "message" | "source" | "attribute"> & {
  readonly created_at: Date;
};

/** In the order they came. */
export async function listEvaluationMessages(
  db: Kysely<Database>,
  evaluationId: string,
  limit: number,
): Promise<EvaluationMessageRow[]> {
  return await db
    .selectFrom("evaluation_message")
    .select(["id", "level", "message", "source", "attribute", "created_at"])
    .where("evaluation_id", "=", evaluationId)
    .orderBy("created_at")
    .orderBy("id")
    .limit(limit)
    .execute();
}

/** Its text; undefined when there is none of this id. */
export async function findEvaluationMessage(db: Kysely<Database>, id: string): Promise<string | undefined> {
  const row = await db.selectFrom("evaluation_message").select("message").where("id", "=", id).executeTakeFirst();
  return row?.message;
}

function neighbour(direction: "previous" | "next"): RawBuilder<string | null> {
  const [comparison, order] = direction === "previous" ? ([sql`<`, sql`desc`] as const) : ([sql`>`, sql`asc`] as const);
  return sql<string | null>`(
    select other.id from evaluation other
    where other.project_id = evaluation.project_id and other.ordinal ${comparison} evaluation.ordinal
    order by other.ordinal ${order} limit 1
  )`;
}

function messageCount(level: number): RawBuilder<number> {
  return sql<number>`(
    select count(*)::int from evaluation_message
    where evaluation_message.evaluation_id = evaluation.id and evaluation_message.level = ${level}
  )`;
}
