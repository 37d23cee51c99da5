import { type Kysely, sql, type Transaction } from "kysely";
import type { WaitingReason } from "../domain/scheduling/waiting-reason.ts";
import { ACTIVE_EVALUATION } from "../domain/states.ts";
import type { Database, EvaluationRow, ProjectRow } from "./schema.ts";
import type { InputOverride } from "./tables/flake-inputs.ts";

export type NewEvaluation = Pick<
  EvaluationRow,
  | "id"
  | "organization_id"
  | "project_id"
  | "repository"
  | "commit_hash"
  | "wildcard"
  | "status"
  | "previous_id"
  | "started_by"
  | "concurrent"
> & {
  readonly waiting_reason: WaitingReason | null;
  /** Of the project's repository; null for what is of none. */
  readonly branch: string | null;
  readonly deploys: boolean;
  readonly commit_message?: string;
  /** Absent: those of the project. */
  readonly input_overrides?: readonly InputOverride[];
  /** Absent: a person began it. */
  readonly trigger?: EvaluationTriggerRow;
};

export interface EvaluationTriggerRow {
  readonly id: string;
  /** A number of the trigger's type. */
  readonly type: number;
}

/**
 * Makes whoever subscribes the organization to a cache wait for the end of this transaction: the foreign key of a new
 * subscription needs the organization's row.
 */
export async function lockSubscriptions(trx: Transaction<Database>, organizationId: string): Promise<void> {
  await trx.selectFrom("organization").select("id").where("id", "=", organizationId).forUpdate().execute();
}

export type ProjectToEvaluate = Pick<
  ProjectRow,
  "id" | "organization_id" | "name" | "repository" | "wildcard" | "concurrency"
>;

/** Evaluations of one project are created one after the other. Undefined when the project is gone. */
export async function lockProjectToEvaluate(
  trx: Transaction<Database>,
  projectId: string,
): Promise<ProjectToEvaluate | undefined> {
  return await trx
    .selectFrom("project")
    .select(["id", "organization_id", "name", "repository", "wildcard", "concurrency"])
    .where("id", "=", projectId)
    .forNoKeyUpdate()
    .executeTakeFirst();
}

export type EvaluationInOrder = Pick<EvaluationRow, "id" | "status" | "commit_hash">;

export async function findLastEvaluation(
  db: Kysely<Database>,
  projectId: string,
): Promise<EvaluationInOrder | undefined> {
  return await db
    .selectFrom("evaluation")
    .select(["id", "status", "commit_hash"])
    .where("project_id", "=", projectId)
    .orderBy("ordinal", "desc")
    .limit(1)
    .executeTakeFirst();
}

/** The active evaluations of the project, newest first. */
export async function listActiveEvaluations(
  db: Kysely<Database>,
  projectId: string,
  limit: number,
): Promise<EvaluationInOrder[]> {
  return await db
    .selectFrom("evaluation")
    .select(["id", "status", "commit_hash"])
    .where("project_id", "=", projectId)
    .where("status", "in", ACTIVE_EVALUATION)
    .orderBy("ordinal", "desc")
    .limit(limit)
    .execute();
}

/** More of them at once are there only when policies were changed on the way. */
const COMPETING_MAX = 100;

/** The active evaluations of the project that do not run beside others, newest first. */
export async function listCompetingEvaluations(db: Kysely<Database>, projectId: string): Promise<EvaluationInOrder[]> {
  return await db
    .selectFrom("evaluation")
    .select(["id", "status", "commit_hash"])
    .where("project_id", "=", projectId)
    .where("status", "in", ACTIVE_EVALUATION)
    .where("concurrent", "=", false)
    .orderBy("ordinal", "desc")
    .limit(COMPETING_MAX)
    .execute();
}

/**
 * Takes a transaction: the project is locked. The project's inputs that are overridden are taken down as they are now,
 * unless the evaluation has its own.
 */
export async function insertEvaluation(trx: Transaction<Database>, evaluation: NewEvaluation): Promise<void> {
  const { trigger, input_overrides: own, waiting_reason: reason, ...values } = evaluation;
  const ofProject = sql<string>`(
    select coalesce(jsonb_agg(jsonb_build_object('input', input_name, 'url', url) order by input_name), '[]')
    from project_flake_input where project_id = ${evaluation.project_id})`;
  await trx
    .insertInto("evaluation")
    .values({
      ...values,
      // It may be removed at this moment; its type is known all the same.
      trigger_id: trigger && sql`(select id from project_trigger where id = ${trigger.id} for key share)`,
      trigger_type: trigger?.type,
      waiting_reason: reason === null ? null : sql<string>`${JSON.stringify(reason)}::jsonb`,
      input_overrides: own ? JSON.stringify(own) : ofProject,
    })
    .execute();
}
