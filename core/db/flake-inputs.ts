import type { Kysely, Transaction } from "kysely";
import type { Database } from "./schema.ts";
import type { ProjectFlakeInputRow } from "./tables/flake-inputs.ts";
import { databaseNow } from "./time.ts";

/** In the order of their names. */
export async function listFlakeInputs(
  db: Kysely<Database>,
  projectId: string,
  limit: number,
): Promise<ProjectFlakeInputRow[]> {
  return await db
    .selectFrom("project_flake_input")
    .selectAll()
    .where("project_id", "=", projectId)
    .orderBy("input_name")
    .limit(limit)
    .execute();
}

export async function findFlakeInput(
  db: Kysely<Database>,
  projectId: string,
  id: string,
): Promise<ProjectFlakeInputRow | undefined> {
  return await db
    .selectFrom("project_flake_input")
    .selectAll()
    .where("project_id", "=", projectId)
    .where("id", "=", id)
    .executeTakeFirst();
}

/** Takes a transaction: the project is locked, so that the count holds. */
export async function countFlakeInputs(trx: Transaction<Database>, projectId: string): Promise<number> {
  const { count } = await trx
    .selectFrom("project_flake_input")
    .select(({ fn }) => fn.countAll<number>().as("count"))
    .where("project_id", "=", projectId)
    .executeTakeFirstOrThrow();
  return count;
}

export async function insertFlakeInput(
  db: Kysely<Database>,
  input: Pick<ProjectFlakeInputRow, "id" | "project_id" | "input_name" | "url">,
): Promise<ProjectFlakeInputRow> {
  return await db.insertInto("project_flake_input").values(input).returningAll().executeTakeFirstOrThrow();
}

export async function updateFlakeInput(
  db: Kysely<Database>,
  projectId: string,
  id: string,
  changes: Partial<Pick<ProjectFlakeInputRow, "input_name" | "url">>,
): Promise<ProjectFlakeInputRow | undefined> {
  return await db
    .updateTable("project_flake_input")
    .set({ ...changes, updated_at: databaseNow })
    .where("project_id", "=", projectId)
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirst();
}

export async function deleteFlakeInput(db: Kysely<Database>, projectId: string, id: string): Promise<boolean> {
  const { numDeletedRows } = await db
    .deleteFrom("project_flake_input")
    .where("project_id", "=", projectId)
    .where("id", "=", id)
    .executeTakeFirst();
  return numDeletedRows > 0n;
}
