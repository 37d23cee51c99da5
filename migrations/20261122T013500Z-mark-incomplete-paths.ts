import { type Kysely, sql } from "kysely";

/** A path whose references cannot all be had any more is not offered until they can. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- Since when an upstream that held a reference of the path has it no more.
    alter table cache_path add column incomplete_at timestamptz;
    -- Serves the look whether they are complete again.
    create index cache_path_incomplete_idx on cache_path (cache_id, hash) where incomplete_at is not null;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop index cache_path_incomplete_idx;
    alter table cache_path drop column incomplete_at;
  `.execute(db);
}
