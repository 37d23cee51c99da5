import { type Kysely, sql } from "kysely";

/** What was assigned lately is summed up without looking at all that ever was. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create index attempt_assigned_idx on attempt (assigned_at) where kind = 1`.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`drop index attempt_assigned_idx`.execute(db);
}
