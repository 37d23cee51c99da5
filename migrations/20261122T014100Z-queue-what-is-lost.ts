import { type Kysely, sql } from "kysely";

/**
 * Whoever deletes rows, and be it by the removal of an organization, leaves behind in the same transaction what is left
 * to do: the objects that nobody names any more, and the outputs that can no longer be had.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table discarded_object (
      object_key text primary key,
      since timestamptz not null default gradient_now()
    );
    create index discarded_object_since_idx on discarded_object (since);

    create function gradient_discard_objects() returns trigger language plpgsql as $$
    begin
      insert into discarded_object (object_key) select object_key from gone order by object_key
      on conflict (object_key) do nothing;
      return null;
    end $$;
    create trigger nar_discard after delete on nar
      referencing old table as gone for each statement execute function gradient_discard_objects();
    create trigger sealed_log_discard after delete on sealed_log
      referencing old table as gone for each statement execute function gradient_discard_objects();
    create trigger source_blob_discard after delete on source_blob
      referencing old table as gone for each statement execute function gradient_discard_objects();
    create trigger source_upload_part_discard after delete on source_upload_part
      referencing old table as gone for each statement execute function gradient_discard_objects();

    -- Paths that a cache held no more while builds still count on them, until loseSuspects has looked.
    create table lost_path (
      store_path text primary key,
      since timestamptz not null default gradient_now()
    );
    create index lost_path_since_idx on lost_path (since);

    create function gradient_lose_paths() returns trigger language plpgsql as $$
    begin
      insert into lost_path (store_path)
      select distinct g.store_path from gone g
      where exists (select from build_output o where o.store_path = g.store_path and o.available)
      order by g.store_path
      on conflict (store_path) do update set since = gradient_now();
      return null;
    end $$;
    create trigger cache_path_lose after delete on cache_path
      referencing old table as gone for each statement execute function gradient_lose_paths();
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop trigger cache_path_lose on cache_path;
    drop trigger source_upload_part_discard on source_upload_part;
    drop trigger source_blob_discard on source_blob;
    drop trigger sealed_log_discard on sealed_log;
    drop trigger nar_discard on nar;
    drop function gradient_lose_paths, gradient_discard_objects;
    drop table lost_path, discarded_object;
  `.execute(db);
}
