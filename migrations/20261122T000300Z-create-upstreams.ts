import { type Kysely, sql } from "kysely";

/** Caches of others that a cache rests on, and what was seen there. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- kind: 2 a binary cache over http or https. mode: 0 read and write, 1 read only, 2 write only.
    create table cache_upstream (
      id uuid primary key,
      cache_id uuid not null references cache on delete cascade,
      kind smallint not null,
      display_name text not null,
      url text not null,
      public_keys text[] not null,
      mode smallint not null default 1,
      created_at timestamptz not null default gradient_now(),
      constraint cache_upstream_url_key unique (cache_id, url)
    );

    -- What the upstream said of a path at seen_at. Where it has the path no more, what it once said stays.
    create table upstream_path (
      upstream_id uuid not null references cache_upstream on delete cascade,
      hash text not null constraint upstream_path_hash_length check (length(hash) = 32),
      found boolean not null,
      store_path text,
      url text,
      compression text,
      file_hash bytea,
      file_size bigint,
      nar_hash bytea,
      nar_size bigint,
      "references" text[],
      deriver text,
      ca text,
      signatures text[],
      seen_at timestamptz not null default gradient_now(),
      primary key (upstream_id, hash),
      constraint upstream_path_is_whole check (not found or (store_path is not null and url is not null
        and compression is not null and nar_hash is not null and nar_size is not null and "references" is not null))
    );
    -- Serves the removal of answers that count no more.
    create index upstream_path_missed_idx on upstream_path (seen_at) where not found;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`drop table upstream_path, cache_upstream`.execute(db);
}
