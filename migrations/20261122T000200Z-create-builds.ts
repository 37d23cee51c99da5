import { type Kysely, sql } from "kysely";

/**
 * Projects, evaluations, the graph of builds, attempts (each a lease of a worker), logs, and workers.
 * The numbers of the states are those of `core/domain/states.ts`.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table project (
      id uuid primary key,
      organization_id uuid not null references organization on delete cascade,
      name text not null,
      display_name text not null,
      description text not null,
      repository text not null,
      wildcard text not null,
      active boolean not null default true,
      keep_evaluations integer not null default 5,
      concurrency smallint not null default 1,
      sign_cache boolean not null default true,
      force_evaluation boolean not null default false,
      managed boolean not null default false,
      created_by uuid references user_account on delete set null,
      created_at timestamptz not null default gradient_now(),
      last_check_at timestamptz,
      constraint project_name_key unique (organization_id, name)
    );
    create index project_created_by_idx on project (created_by);

    create table evaluation (
      id uuid primary key,
      -- Evaluation order: "older" means a smaller number.
      ordinal bigint generated always as identity,
      organization_id uuid not null references organization on delete cascade,
      project_id uuid not null references project on delete cascade,
      repository text not null,
      commit_hash text not null,
      commit_message text not null default '',
      commit_author text not null default '',
      wildcard text not null,
      status smallint not null,
      trusted boolean not null default true,
      waiting_reason jsonb,
      previous_id uuid references evaluation on delete set null,
      started_by uuid references user_account on delete set null,
      failure text,
      created_at timestamptz not null default gradient_now(),
      updated_at timestamptz not null default gradient_now(),
      fetch_started_at timestamptz,
      eval_flake_started_at timestamptz,
      eval_drv_started_at timestamptz,
      building_started_at timestamptz,
      finished_at timestamptz
    );
    create index evaluation_project_idx on evaluation (project_id, ordinal desc);
    create index evaluation_organization_idx on evaluation (organization_id);
    create index evaluation_previous_idx on evaluation (previous_id);
    create index evaluation_started_by_idx on evaluation (started_by);
    -- Serves claimEvaluations and the loops that look after what has not ended.
    create index evaluation_active_idx on evaluation (status, ordinal) where status in (0, 1, 2, 3, 4, 8);

    create table evaluation_message (
      id uuid primary key,
      evaluation_id uuid not null references evaluation on delete cascade,
      level smallint not null,
      message text not null,
      source text not null,
      attribute text[],
      created_at timestamptz not null default gradient_now()
    );
    create index evaluation_message_idx on evaluation_message (evaluation_id, created_at);

    -- One row for (organization, derivation). It is either expanded (all its edges are recorded) or pruned (its
    -- outputs were in a cache with their closure when it was recorded: pruned_at, pruned_cache_id).
    create table build (
      id uuid primary key,
      organization_id uuid not null references organization on delete cascade,
      drv_path text not null,
      name text not null,
      system text not null,
      required_features text[] not null default '{}',
      prefer_local_build boolean not null default false,
      allow_substitutes boolean not null default true,
      fixed_output boolean not null default false,
      timeout_seconds integer,
      max_silent_seconds integer,
      status smallint not null,
      pending_dependencies integer not null default 0
        constraint build_pending_is_not_negative check (pending_dependencies >= 0),
      transient_failures integer not null default 0,
      retry_at timestamptz,
      deterministic_failure boolean not null default false,
      priority integer not null default 0,
      pruned_at timestamptz,
      pruned_cache_id uuid references cache on delete set null,
      created_at timestamptz not null default gradient_now(),
      updated_at timestamptz not null default gradient_now(),
      ready_at timestamptz,
      constraint build_key unique (organization_id, drv_path)
    );
    -- Serves claimBuilds: same filter, same order.
    create index build_queue_idx on build (priority desc, ready_at, id) where status = 1;
    create index build_retry_idx on build (retry_at) where status = 8;
    create index build_pruned_cache_idx on build (pruned_cache_id);

    -- The bytes of the .drv file, apart from the row that every transition rewrites.
    create table build_derivation (
      build_id uuid primary key references build on delete cascade,
      aterm bytea not null
    );

    create table build_output (
      build_id uuid not null references build on delete cascade,
      name text not null,
      store_path text,
      available boolean not null default false,
      primary key (build_id, name)
    );
    create index build_output_path_idx on build_output (store_path);

    -- satisfied: every output that the edge names is available.
    create table build_edge (
      build_id uuid not null references build on delete cascade,
      dependency_id uuid not null references build on delete cascade,
      outputs text[] not null,
      satisfied boolean not null default false,
      primary key (build_id, dependency_id)
    );
    create index build_edge_dependency_idx on build_edge (dependency_id) include (build_id);

    create table build_source (
      build_id uuid not null references build on delete cascade,
      store_path text not null,
      primary key (build_id, store_path)
    );

    create table attempt (
      id uuid primary key,
      -- 0 evaluation, 1 build
      kind smallint not null,
      organization_id uuid not null references organization on delete cascade,
      evaluation_id uuid references evaluation on delete cascade,
      build_id uuid references build on delete cascade,
      worker_id uuid not null,
      assigned_at timestamptz not null default gradient_now(),
      lease_expires_at timestamptz not null,
      started_at timestamptz,
      finished_at timestamptz,
      outcome smallint not null default 0,
      reason smallint,
      message text,
      log_bytes bigint not null default 0,
      log_lines bigint not null default 0,
      constraint attempt_subject check (
        (kind = 0) = (evaluation_id is not null) and (kind = 1) = (build_id is not null)),
      constraint attempt_end check ((outcome = 0) = (finished_at is null))
    );
    -- Two valid leases on one subject cannot be written.
    create unique index attempt_open_build_key on attempt (build_id) where finished_at is null;
    create unique index attempt_open_evaluation_key on attempt (evaluation_id) where finished_at is null;
    create index attempt_build_idx on attempt (build_id, assigned_at desc);
    create index attempt_evaluation_idx on attempt (evaluation_id);
    create index attempt_organization_idx on attempt (organization_id);
    create index attempt_open_lease_idx on attempt (lease_expires_at) where finished_at is null;
    create index attempt_open_worker_idx on attempt (worker_id) where finished_at is null;

    create table attempt_log_chunk (
      attempt_id uuid not null references attempt on delete cascade,
      byte_start bigint not null,
      byte_length integer not null,
      line_start bigint not null,
      data bytea not null,
      primary key (attempt_id, byte_start)
    );

    -- What the API calls a build. When the evaluation ends the link keeps the outcome and the attempt it saw.
    create table evaluation_build (
      id uuid primary key,
      evaluation_id uuid not null references evaluation on delete cascade,
      build_id uuid not null references build on delete cascade,
      outcome smallint,
      attempt_id uuid references attempt on delete set null,
      created_at timestamptz not null default gradient_now(),
      constraint evaluation_build_key unique (evaluation_id, build_id)
    );
    create index evaluation_build_build_idx on evaluation_build (build_id);
    create index evaluation_build_attempt_idx on evaluation_build (attempt_id);

    -- An attribute that was asked for. Its path is a list of names, never a joined string.
    create table entry_point (
      id uuid primary key,
      evaluation_id uuid not null references evaluation on delete cascade,
      attribute text[] not null,
      build_id uuid not null references build on delete cascade,
      created_at timestamptz not null default gradient_now(),
      constraint entry_point_key unique (evaluation_id, attribute)
    );
    create index entry_point_build_idx on entry_point (build_id);

    create table worker_registration (
      id uuid primary key,
      organization_id uuid not null references organization on delete cascade,
      worker_id uuid not null,
      display_name text not null,
      token_hash text not null,
      url text,
      active boolean not null default true,
      enable_fetch boolean not null default true,
      enable_eval boolean not null default true,
      enable_build boolean not null default true,
      managed boolean not null default false,
      created_by uuid references user_account on delete set null,
      created_at timestamptz not null default gradient_now(),
      constraint worker_registration_key unique (organization_id, worker_id)
    );
    create index worker_registration_worker_idx on worker_registration (worker_id);
    create index worker_registration_created_by_idx on worker_registration (created_by);

    -- Sessions of workers. At most one open row a worker: the newer authenticated session replaces the older.
    create table worker_connection (
      id uuid primary key,
      worker_id uuid not null,
      connected_at timestamptz not null default gradient_now(),
      last_seen_at timestamptz not null default gradient_now(),
      disconnected_at timestamptz,
      description jsonb not null
    );
    create unique index worker_connection_open_key on worker_connection (worker_id) where disconnected_at is null;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop table worker_connection, worker_registration, entry_point, evaluation_build, attempt_log_chunk, attempt,
      build_source, build_edge, build_output, build_derivation, build, evaluation_message, evaluation, project;
  `.execute(db);
}
