import { type Kysely, sql } from "kysely";

/** Paths name the derivation that made them as it was resolved: logs are asked for by that. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create index build_resolution_drv_path_idx on build_resolution (drv_path)`.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`drop index build_resolution_drv_path_idx`.execute(db);
}
