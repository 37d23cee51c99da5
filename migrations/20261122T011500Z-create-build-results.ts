import { type Kysely, sql } from "kysely";

/** What a build took and offers beside its outputs, and the keys that workers sign with. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- Null is what was not measured.
    alter table attempt add column build_ms bigint;
    alter table attempt add column cpu_user_ms bigint;
    alter table attempt add column cpu_system_ms bigint;
    alter table attempt add column peak_memory_bytes bigint;
    alter table attempt add column io_read_bytes bigint;
    alter table attempt add column io_write_bytes bigint;

    -- Files that a build offers for download. An output's path is the same after every build, so the rows are the
    -- build's: of its last success. Serves listProducts by its key.
    create table build_product (
      build_id uuid not null references build on delete cascade,
      ordinal integer not null,
      output text not null,
      type text not null,
      subtype text not null,
      name text not null,
      -- Below the store folder: the base name of an output, and names below it.
      path text not null,
      -- Null for a folder.
      size bigint,
      primary key (build_id, ordinal)
    );

    -- The public half, as the worker announced it last.
    alter table worker_registration add column signing_key text;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table worker_registration drop column signing_key;
    drop table build_product;
    alter table attempt drop column io_write_bytes, drop column io_read_bytes, drop column peak_memory_bytes,
      drop column cpu_system_ms, drop column cpu_user_ms, drop column build_ms;
  `.execute(db);
}
