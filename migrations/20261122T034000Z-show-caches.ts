import { type Kysely, sql } from "kysely";

/** What caches have sent and held, by minute, hour, day and week; and their paths by age. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table cache_history (
      cache_id uuid not null references cache (id) on delete cascade,
      granularity smallint not null,
      bucket_start timestamptz not null,
      requests bigint not null default 0,
      bytes bigint not null default 0,
      packages bigint,
      stored_bytes bigint,
      primary key (cache_id, granularity, bucket_start)
    )`.execute(db);
  await sql`create index cache_history_age_idx on cache_history (granularity, bucket_start)`.execute(db);
  await sql`create index cache_path_age_idx on cache_path (cache_id, created_at, hash)`.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`drop index cache_path_age_idx`.execute(db);
  await sql`drop table cache_history`.execute(db);
}
