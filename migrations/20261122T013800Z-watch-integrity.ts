import { type Kysely, sql } from "kysely";

/** Stored objects are read again and again; what is found damaged is repaired, and what was found is kept. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- verified_at is when the file's hash was right last; unpacked_at, when the NAR's own hash was.
    alter table nar add column unpacked_at timestamptz not null default gradient_now();
    update nar set unpacked_at = verified_at;
    -- What the scrub reads next, and objects in the order in which a store lists them.
    create index nar_verified_idx on nar (verified_at) where damaged_at is null;
    create index nar_object_order_idx on nar (object_key collate "C");

    -- One row each time that an object was found damaged. Without healed_at it is what is left to repair, as long as
    -- the NAR's row says so too.
    create table nar_damage (
      id bigint generated always as identity primary key,
      object_key text not null,
      nar_hash bytea not null,
      fault text not null,
      message text not null,
      found_at timestamptz not null default gradient_now(),
      attempts integer not null default 0,
      retry_at timestamptz not null default gradient_now(),
      problem text,
      healed_at timestamptz,
      healed_by text
    );
    create unique index nar_damage_open_key on nar_damage (object_key) where healed_at is null;
    create index nar_damage_open_idx on nar_damage (retry_at) where healed_at is null;
    create index nar_damage_found_idx on nar_damage (found_at);
    insert into nar_damage (object_key, nar_hash, fault, message, found_at)
    select object_key, nar_hash, 'missing', 'it was found before reasons were recorded', damaged_at
    from nar where damaged_at is not null;

    -- What was verified since the beginning; and what was found and repaired, as far as nar_damage no longer tells.
    create table integrity_count (
      name text primary key,
      value bigint not null
    );

    create table scrub_state (
      singleton boolean primary key default true check (singleton),
      -- The pass that compares rows with what the store lists goes on after this key; null is from the beginning.
      rows_after text,
      rows_finished_at timestamptz
    );
    insert into scrub_state default values;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop table scrub_state, integrity_count, nar_damage;
    drop index nar_verified_idx, nar_object_order_idx;
    alter table nar drop column unpacked_at;
  `.execute(db);
}
