import { type Kysely, sql } from "kysely";

/** Keys of a cache in a table of their own. The one that it has keeps its sealed form: a key's id is part of that. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table cache_key (
      -- The first key of a cache has the cache's id.
      id uuid primary key,
      cache_id uuid not null references cache on delete cascade,
      public_key text not null,
      name text not null generated always as (split_part(public_key, ':', 1)) stored,
      secret_key bytea not null,
      -- 0 signs, 1 its signatures are being taken out, 2 has none left.
      state smallint not null default 0 check (state between 0 and 2),
      -- Up to which path, in the order of their hashes, the state holds; null when it holds for all.
      walked_to text,
      created_at timestamptz not null default gradient_now(),
      retired_at timestamptz,
      constraint cache_key_name_key unique (cache_id, name),
      constraint cache_key_is_whole check (
        (state = 0) = (retired_at is null) and (state <> 1 or walked_to is not null)
          and (state <> 2 or walked_to is null))
    );
    create index cache_key_name_idx on cache_key (name);
    create index cache_key_walk_idx on cache_key (created_at) where walked_to is not null;
    insert into cache_key (id, cache_id, public_key, secret_key, created_at)
      select id, id, public_key, secret_key, created_at from cache;
    alter table cache drop column public_key, drop column secret_key;
  `.execute(db);
}

/** Refuses where a cache has other keys than its first one: there is no place for them. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    do $$ begin
      if exists (select from cache_key where id <> cache_id or state <> 0 or walked_to is not null) then
        raise exception 'caches have keys that would be lost: retire and forget all but the first of each';
      end if;
    end $$;
    alter table cache add column public_key text, add column secret_key bytea;
    update cache set public_key = k.public_key, secret_key = k.secret_key from cache_key k where k.id = cache.id;
    alter table cache alter column public_key set not null, alter column secret_key set not null;
    drop table cache_key;
  `.execute(db);
}
