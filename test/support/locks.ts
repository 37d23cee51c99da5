import { sql } from "kysely";
import type { TestDatabase } from "./database.ts";

type Db = TestDatabase["db"];

/** Resolves once another session of this database waits for a lock. */
export async function untilSomebodyWaits(db: Db): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (Date.now() < deadline) {
    const { rows } = await sql`
      select from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock' and pid <> pg_backend_pid()`.execute(db);
    if (rows.length > 0) return;
  }
  throw new Error("nobody waits for a lock");
}
