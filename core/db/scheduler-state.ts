import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/** Whether an administrator has the instance give out nothing new. */
export async function isDraining(db: Kysely<Database>): Promise<boolean> {
  const { draining_since } = await db.selectFrom("scheduler_state").select("draining_since").executeTakeFirstOrThrow();
  return draining_since !== null;
}

/** False when it was so already. */
export async function setDraining(db: Kysely<Database>, draining: boolean): Promise<boolean> {
  const { rows } = await sql`
    update scheduler_state set draining_since = case when ${draining}::boolean then gradient_now() end
    where (draining_since is not null) <> ${draining}::boolean returning id`.execute(db);
  return rows.length > 0;
}

/** Ends a draining that every server of that time has left by now. True when there was one. */
export async function endDrainingOfFormerServers(db: Kysely<Database>): Promise<boolean> {
  const { rows } = await sql`
    update scheduler_state set draining_since = null
    where draining_since is not null and not exists (select from server where started_at <= draining_since)
    returning id`.execute(db);
  return rows.length > 0;
}
