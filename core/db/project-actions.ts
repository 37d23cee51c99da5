import { type Insertable, type Kysely, sql, type Transaction, type Updateable } from "kysely";
import { jsonbText } from "./json-text.ts";
import type { Database } from "./schema.ts";
import type { ProjectActionRow, ProjectActionTable, StoredActionConfig } from "./tables/actions.ts";
import { databaseNow } from "./time.ts";

export type NewAction = Omit<
  Insertable<ProjectActionTable>,
  "config" | "last_fired_at" | "failures" | "paused_until"
> & {
  readonly config: StoredActionConfig;
};

export interface ActionChanges extends Omit<Updateable<ProjectActionTable>, "id" | "project_id" | "config"> {
  readonly config?: StoredActionConfig;
}

/** By name. */
export async function listActions(db: Kysely<Database>, projectId: string, limit: number): Promise<ProjectActionRow[]> {
  return await db
    .selectFrom("project_action")
    .selectAll()
    .where("project_id", "=", projectId)
    .orderBy("name")
    .limit(limit)
    .execute();
}

export async function countActions(db: Kysely<Database>, projectId: string): Promise<number> {
  const { count } = await db
    .selectFrom("project_action")
    .select(sql<number>`count(*)::int`.as("count"))
    .where("project_id", "=", projectId)
    .executeTakeFirstOrThrow();
  return count;
}

export async function findAction(
  db: Kysely<Database>,
  projectId: string,
  id: string,
): Promise<ProjectActionRow | undefined> {
  return await db
    .selectFrom("project_action")
    .selectAll()
    .where("project_id", "=", projectId)
    .where("id", "=", id)
    .executeTakeFirst();
}

/** Two changes of one action never overlap. */
export async function lockAction(
  trx: Transaction<Database>,
  projectId: string,
  id: string,
): Promise<ProjectActionRow | undefined> {
  return await trx
    .selectFrom("project_action")
    .selectAll()
    .where("project_id", "=", projectId)
    .where("id", "=", id)
    .forNoKeyUpdate()
    .executeTakeFirst();
}

/** Fails on `project_action_key`. */
export async function insertAction(db: Kysely<Database>, { config, ...action }: NewAction): Promise<ProjectActionRow> {
  return await db
    .insertInto("project_action")
    .values({ ...action, config: jsonbText(config) })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Fails on `project_action_key`. What failed before says nothing of it any more. */
export async function updateAction(
  db: Kysely<Database>,
  id: string,
  { config, ...changes }: ActionChanges,
): Promise<ProjectActionRow> {
  return await db
    .updateTable("project_action")
    .set({
      ...changes,
      ...(config && { config: jsonbText(config) }),
      failures: 0,
      paused_until: null,
      updated_at: databaseNow,
    })
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** What waits to be sent is not sent any more. */
export async function deletePendingDeliveries(trx: Transaction<Database>, id: string): Promise<void> {
  await trx.deleteFrom("action_delivery").where("action_id", "=", id).where("delivered_at", "is", null).execute();
}

/** With its deliveries. */
export async function deleteAction(db: Kysely<Database>, projectId: string, id: string): Promise<boolean> {
  const { numDeletedRows } = await db
    .deleteFrom("project_action")
    .where("project_id", "=", projectId)
    .where("id", "=", id)
    .executeTakeFirst();
  return numDeletedRows > 0n;
}
