import { type Kysely, sql } from "kysely";

/**
 * Caches, what they hold, and who may use them. A NAR is stored once; a path belongs to a cache. Store paths are kept
 * as base names (`hash-name`), as narinfo does.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- kind: 0 a cache that clients see under its name; 1 an organization's internal store for input sources, without
    -- a name, read by that organization's workers only.
    create table cache (
      id uuid primary key,
      kind smallint not null default 0,
      organization_id uuid references organization on delete cascade,
      name text constraint cache_name_key unique,
      display_name text not null,
      description text not null,
      active boolean not null default true,
      public boolean not null default false,
      priority integer not null default 40,
      local_priority integer,
      max_storage_gb integer not null default 0,
      public_key text not null,
      secret_key bytea not null,
      managed boolean not null default false,
      created_by uuid references user_account on delete set null,
      created_at timestamptz not null default gradient_now(),
      constraint cache_kind_is_whole check (
        (kind = 0) = (name is not null) and (kind = 1) = (organization_id is not null))
    );
    create unique index cache_internal_key on cache (organization_id) where kind = 1;
    create index cache_created_by_idx on cache (created_by);

    create table cache_role (
      id uuid primary key,
      cache_id uuid references cache on delete cascade,
      name text not null,
      permissions bigint not null,
      managed boolean not null default false,
      created_at timestamptz not null default gradient_now(),
      constraint cache_role_name_key unique nulls not distinct (cache_id, name)
    );
    insert into cache_role (id, cache_id, name, permissions) values
      ('00000000-0000-0000-0000-000000000011', null, 'Admin', ${sql.lit(0b11_1111_1111)}),
      ('00000000-0000-0000-0000-000000000012', null, 'Write', ${sql.lit(0b00_0000_0111)}),
      ('00000000-0000-0000-0000-000000000013', null, 'View', ${sql.lit(0b00_0000_0011)});

    create table cache_member (
      cache_id uuid not null references cache on delete cascade,
      user_id uuid not null references user_account on delete cascade,
      role_id uuid not null references cache_role,
      created_at timestamptz not null default gradient_now(),
      primary key (cache_id, user_id)
    );
    create index cache_member_user_idx on cache_member (user_id);
    create index cache_member_role_idx on cache_member (role_id);

    -- mode: 0 read and write, 1 read only, 2 write only.
    create table organization_cache (
      id uuid primary key,
      organization_id uuid not null references organization on delete cascade,
      cache_id uuid not null references cache on delete cascade,
      mode smallint not null default 0,
      created_at timestamptz not null default gradient_now(),
      constraint organization_cache_key unique (organization_id, cache_id)
    );
    create index organization_cache_cache_idx on organization_cache (cache_id);

    create table api_key (
      id uuid primary key,
      owner_id uuid not null references user_account on delete cascade,
      name text not null,
      token_hash bytea not null constraint api_key_token_hash_key unique,
      permissions bigint not null,
      organization_id uuid references organization on delete cascade,
      cache_id uuid references cache on delete cascade,
      allowed_ips text[] not null default '{}',
      managed boolean not null default false,
      created_at timestamptz not null default gradient_now(),
      last_used_at timestamptz,
      expires_at timestamptz,
      revoked_at timestamptz,
      constraint api_key_name_key unique (owner_id, name),
      constraint api_key_has_one_pin check (organization_id is null or cache_id is null)
    );
    create index api_key_organization_idx on api_key (organization_id);
    create index api_key_cache_idx on api_key (cache_id);

    -- One stored object a NAR. A row says that the object was durable and its hashes were right at verified_at;
    -- damaged_at takes it out of service until the same NAR is uploaded again.
    create table nar (
      nar_hash bytea primary key,
      nar_size bigint not null,
      file_hash bytea not null,
      file_size bigint not null,
      compression text not null,
      object_key text not null constraint nar_object_key_key unique,
      created_at timestamptz not null default gradient_now(),
      verified_at timestamptz not null default gradient_now(),
      damaged_at timestamptz
    );

    -- Names of NAR files that were given out: they go on resolving after the NAR was stored anew.
    create table nar_file (
      file_hash bytea primary key,
      nar_hash bytea not null references nar on delete cascade
    );
    create index nar_file_nar_idx on nar_file (nar_hash);

    create table cache_path (
      cache_id uuid not null references cache on delete cascade,
      hash text not null constraint cache_path_hash_length check (length(hash) = 32),
      store_path text not null,
      nar_hash bytea not null references nar,
      "references" text[] not null default '{}',
      deriver text,
      ca text,
      signatures text[] not null default '{}',
      created_at timestamptz not null default gradient_now(),
      last_used_at timestamptz not null default gradient_now(),
      primary key (cache_id, hash)
    );
    create index cache_path_nar_idx on cache_path (nar_hash);
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop table cache_path, nar_file, nar, api_key, organization_cache, cache_member, cache_role, cache;
  `.execute(db);
}
