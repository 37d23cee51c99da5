import { type Kysely, sql } from "kysely";

/** A log is compressed already, and is read in parts: PostgreSQL finds a part only of what it has not compressed. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table cache_log alter column log set storage external`.execute(db);
}
