import { type Kysely, sql } from "kysely";

/** Upstreams of three kinds, what caches keep of what passes through them, and how well upstreams answer. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- kind: 0 another cache of this server, 1 a cache of another Gradient, 2 a binary cache over http or https.
    alter table cache_upstream
      alter column url drop not null,
      -- Whoever added it: another cache that is not public is read in that user's name.
      add column added_by uuid references user_account on delete set null,
      add column upstream_cache_id uuid references cache on delete cascade,
      add column remote_cache text,
      -- Sealed.
      add column api_key bytea,
      drop constraint cache_upstream_url_key,
      add constraint cache_upstream_url_key unique nulls not distinct (cache_id, url, remote_cache, upstream_cache_id),
      add constraint cache_upstream_is_whole check (
        (kind = 0 and upstream_cache_id is not null and upstream_cache_id <> cache_id and url is null)
        or (kind = 1 and url is not null and remote_cache is not null)
        or (kind = 2 and url is not null));
    create index cache_upstream_added_by_idx on cache_upstream (added_by);
    create index cache_upstream_cache_idx on cache_upstream (upstream_cache_id);
    -- Serves a loss, which is one of every cache that rests on the same address.
    create index cache_upstream_url_idx on cache_upstream (url);

    alter table upstream_path
      add column file_hash_algorithm text not null default 'sha256',
      -- By one of the upstream's keys. Else its content address alone speaks for it.
      add column signed boolean not null default false;

    -- Whether the cache keeps what passes through it from its upstreams.
    alter table cache add column pull_through boolean not null default false;

    -- How an upstream answered within the hour that began at hour.
    create table upstream_metric (
      upstream_id uuid not null references cache_upstream on delete cascade,
      hour timestamptz not null,
      requests bigint not null,
      latency_ms bigint not null,
      hits bigint not null,
      misses bigint not null,
      failures bigint not null,
      primary key (upstream_id, hour)
    );
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop table upstream_metric;
    alter table cache drop column pull_through;
    alter table upstream_path drop column file_hash_algorithm, drop column signed;
    delete from cache_upstream where kind <> 2;
    drop index cache_upstream_url_idx, cache_upstream_cache_idx, cache_upstream_added_by_idx;
    alter table cache_upstream
      drop constraint cache_upstream_is_whole,
      drop constraint cache_upstream_url_key,
      drop column api_key,
      drop column remote_cache,
      drop column upstream_cache_id,
      drop column added_by,
      alter column url set not null,
      add constraint cache_upstream_url_key unique (cache_id, url);
  `.execute(db);
}
