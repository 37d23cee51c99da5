import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/** Whether an administrator has the instance give out nothing new. */
export async function isDraining(db: Kysely<Database>): Promise<boolean> {
  const { draining } = await db.selectFrom("scheduler_state").select("draining").executeTakeFirstOrThrow();
  return draining;
}

/** False when it was so already. */
export async function setDraining(db: Kysely<Database>, draining: boolean): Promise<boolean> {
  const { rows } = await sql`
    update scheduler_state set draining = ${draining} where draining <> ${draining} returning id`.execute(db);
  return rows.length > 0;
}
