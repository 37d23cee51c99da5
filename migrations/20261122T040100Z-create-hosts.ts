import { type Kysely, sql } from "kysely";

/** Machines that run what a project builds, and what they told of it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table host (
      id uuid primary key,
      project_id uuid not null references project on delete cascade,
      -- The attribute's name in nixosConfigurations.
      name text not null,
      first_seen_at timestamptz not null default gradient_now(),
      last_contact_at timestamptz not null default gradient_now(),
      -- Until then its systems stay in the caches, unless it is heard of again.
      kept_until timestamptz not null,
      agent_version text not null default '',
      -- The report that the following is from, and when it happened, never later than it came.
      run_id uuid,
      sequence integer not null default 0,
      seen_at timestamptz,
      -- Base names.
      running_path text,
      booted_path text,
      generation integer,
      -- 0 unknown, 1 healthy, 2 unhealthy
      health smallint not null default 0,
      health_reason text,
      failed_units text[] not null default '{}',
      healthy_since timestamptz,
      running_since timestamptz,
      -- What is known of the running system: where it was built, and from what.
      running_system jsonb,
      constraint host_name_key unique (project_id, name)
    );

    -- Roots of retention.
    create table host_path (
      host_id uuid not null references host on delete cascade,
      -- 0 running, 1 booted, 2 to go back to, 3 wanted
      role smallint not null,
      store_path text not null,
      since timestamptz not null default gradient_now(),
      primary key (host_id, role, store_path)
    );
    create index host_path_store_path_idx on host_path (store_path);

    create table deployment (
      id uuid primary key,
      host_id uuid not null references host on delete cascade,
      run_id uuid not null,
      -- 0 switch, 1 boot, 2 test, 3 dry-activate
      mode smallint not null,
      -- Of the newest report of the run.
      step smallint not null,
      sequence integer not null,
      health smallint not null,
      reason text,
      failed_units text[] not null default '{}',
      exit_code integer,
      agent_version text not null,
      generation integer,
      store_path text,
      system jsonb,
      -- Every step that came: sequence, step, happened_at.
      steps jsonb not null,
      -- It has kept what it brought from this host, and from others.
      failed boolean not null default false,
      started_at timestamptz not null default gradient_now(),
      updated_at timestamptz not null default gradient_now(),
      ended_at timestamptz,
      constraint deployment_run_key unique (host_id, run_id)
    );
    create index deployment_history_idx on deployment (host_id, started_at desc, id desc);

    create table deployment_hold (
      id uuid primary key,
      project_id uuid not null references project on delete cascade,
      -- It is kept from this host alone; null: the commit is kept from all hosts.
      host_id uuid references host on delete cascade,
      -- Base name, where it is for one host.
      store_path text,
      commit_hash text,
      evaluation_id uuid,
      ordinal bigint,
      -- Whose failure it comes from; null: somebody holds it.
      failed_host text,
      reason text,
      held_by uuid references user_account on delete set null,
      created_at timestamptz not null default gradient_now()
    );
    create unique index deployment_hold_commit_key on deployment_hold (project_id, commit_hash) where host_id is null;
    create unique index deployment_hold_host_key on deployment_hold (host_id, store_path) where host_id is not null;
    create index deployment_hold_project_idx on deployment_hold (project_id, created_at desc, id desc);
    create index deployment_hold_held_by_idx on deployment_hold (held_by) where held_by is not null;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`drop table deployment_hold, deployment, host_path, host`.execute(db);
}
