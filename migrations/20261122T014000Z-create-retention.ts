import { type Kysely, sql } from "kysely";

/** What is kept, and what goes: roots that people set, work tables of the sweep, and what is left to do after it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- Serves every look for referrers. last_used_at must stay without an index: each use would write all indexes anew.
    create index cache_path_reference_idx on cache_path using gin ("references");
    -- Serves the root of sources that open builds need.
    create index build_source_path_idx on build_source (store_path);

    -- When somebody counted on the NAR last without a path that names it: an upload found it here, or brought it.
    alter table nar add column claimed_at timestamptz not null default gradient_now();
    update nar set claimed_at = created_at;

    -- Since when everything that was asked for before is in last_used_at.
    alter table server add column uses_flushed_at timestamptz;

    create table cache_pin (
      id uuid primary key,
      cache_id uuid not null references cache on delete cascade,
      name text not null,
      keep_revisions integer not null constraint cache_pin_keeps_one check (keep_revisions >= 1),
      last_revision integer not null default 0,
      created_at timestamptz not null default gradient_now(),
      constraint cache_pin_key unique (cache_id, name)
    );
    create table cache_pin_revision (
      pin_id uuid not null references cache_pin on delete cascade,
      revision integer not null,
      cache_id uuid not null references cache on delete cascade,
      hash text not null,
      store_path text not null,
      created_by uuid references user_account on delete set null,
      created_at timestamptz not null default gradient_now(),
      primary key (pin_id, revision)
    );
    create index cache_pin_revision_path_idx on cache_pin_revision (cache_id, hash);
    create index cache_pin_revision_created_by_idx on cache_pin_revision (created_by);

    -- Paths that a cache does not take again.
    create table blocked_path (
      cache_id uuid not null references cache on delete cascade,
      hash text not null constraint blocked_path_hash_length check (length(hash) = 32),
      reason text not null,
      blocked_by uuid references user_account on delete set null,
      created_at timestamptz not null default gradient_now(),
      primary key (cache_id, hash)
    );
    create index blocked_path_blocked_by_idx on blocked_path (blocked_by);

    -- One row a sweep that began; the newest tell when the next one is due.
    create table retention_sweep (
      id uuid primary key,
      -- 0 a whole one, 1 of the objects that no row names.
      kind smallint not null,
      started_at timestamptz not null default gradient_now(),
      finished_at timestamptz,
      report jsonb
    );
    create index retention_sweep_kind_idx on retention_sweep (kind, started_at);

    -- What a sweep works with. A crash may empty them: the next sweep begins anew.
    create unlogged table retention_path (
      mark_id uuid not null,
      hash text not null,
      store_path text not null,
      nar_hash bytea not null,
      file_size bigint not null,
      -- As the path's row had it.
      last_used_at timestamptz not null,
      -- The latest use of the path and of whatever refers to it; infinity: it stays.
      used_at timestamptz not null,
      doomed boolean not null default false,
      primary key (mark_id, hash)
    ) with (fillfactor = 70);
    create unlogged table retention_step (
      mark_id uuid not null,
      step integer not null,
      subject text not null,
      primary key (mark_id, step, subject)
    );
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop table retention_step, retention_path, retention_sweep, blocked_path, cache_pin_revision, cache_pin;
    alter table server drop column uses_flushed_at;
    alter table nar drop column claimed_at;
    drop index build_source_path_idx, cache_path_reference_idx;
  `.execute(db);
}
