import { type Kysely, sql } from "kysely";

/**
 * What changes most often costs less: an index holds no rows that nobody finds by it, and pages keep room for the next
 * version of their rows, which then needs no entries in the indexes.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop index build_pruned_cache_idx;
    create index build_pruned_cache_idx on build (pruned_cache_id) where pruned_cache_id is not null;
    drop index attempt_evaluation_idx;
    create index attempt_evaluation_idx on attempt (evaluation_id) where evaluation_id is not null;
    drop index attempt_open_evaluation_key;
    create unique index attempt_open_evaluation_key on attempt (evaluation_id)
      where finished_at is null and evaluation_id is not null;
    drop index attempt_open_build_key;
    create unique index attempt_open_build_key on attempt (build_id)
      where finished_at is null and build_id is not null;
    drop index attempt_deadline_idx;
    create index attempt_deadline_idx on attempt (deadline_at) where finished_at is null and deadline_at is not null;
    drop index evaluation_build_attempt_idx;
    create index evaluation_build_attempt_idx on evaluation_build (attempt_id) where attempt_id is not null;

    alter table build set (fillfactor = 80);
    alter table build_edge set (fillfactor = 90);
    alter table build_output set (fillfactor = 90);
    alter table attempt set (fillfactor = 85)`.execute(db);
}
