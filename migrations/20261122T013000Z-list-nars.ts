import { type Kysely, sql } from "kysely";

/** What is in a NAR, so that it is not unpacked again to say so. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table nar_listing (
      nar_hash bytea primary key references nar on delete cascade,
      -- gzip of the listing's JSON. Null: it is larger than what is kept.
      data bytea,
      -- Of the JSON.
      text_bytes bigint not null,
      created_at timestamptz not null default gradient_now()
    );
    -- It is compressed already, and read in parts.
    alter table nar_listing alter column data set storage external;

    create table nar_debug_file (
      build_id bytea not null,
      nar_hash bytea not null references nar_listing on delete cascade,
      primary key (build_id, nar_hash)
    );
    create index nar_debug_file_nar_idx on nar_debug_file (nar_hash);

    -- Serves listUnlistedDebugNars: separated debug information comes in an output called so.
    create index cache_path_debug_idx on cache_path (nar_hash) where store_path like '%-debug';
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop index cache_path_debug_idx;
    drop table nar_debug_file;
    drop table nar_listing;
  `.execute(db);
}
