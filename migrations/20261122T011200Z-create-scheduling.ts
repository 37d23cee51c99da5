import { type Kysely, sql } from "kysely";

/** What the scheduler goes by: queues that are read one need at a time, explained assignments, history and switches. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- Serves listReadyQueues and listCandidates: builds that the same workers can run are one queue, longest ready
    -- first.
    drop index build_queue_idx;
    create index build_queue_idx on build
      (organization_id, system, required_features, priority, ready_at, id) where status = 1;

    -- Serves resetEndedPriorities.
    create index build_priority_idx on build (id) where priority <> 0;

    alter table evaluation add column concurrent boolean not null default false;
    alter table evaluation add column priority smallint not null default 0;
    -- Serves reconcileWaiting: what may have to go on, or to give another reason.
    create index evaluation_waiting_idx on evaluation (id) where waiting_reason is not null;
    -- Serves raisePriorities: people have put few evaluations first.
    create index evaluation_priority_idx on evaluation (id) where priority <> 0 and status in (0, 1, 2, 3, 4, 8);

    -- Why the attempt went to its worker; and until when the worker has to end it, however lively it is otherwise.
    alter table attempt add column score jsonb;
    alter table attempt add column deadline_at timestamptz;
    create index attempt_deadline_idx on attempt (deadline_at) where finished_at is null;
    -- Serves readFinishedBuilds.
    create index attempt_built_idx on attempt (finished_at) where kind = 1 and outcome = 1;

    -- The first part of a derivation's name, as builtins.parseDrvName splits it: before a dash that no letter follows.
    create function gradient_package_name(name text) returns text language sql immutable parallel safe strict as
      $$ select regexp_replace(name, '-[^a-zA-Z].*$', '') $$;

    -- What builds of a package took lately, newest last, at most 16; and the most memory of the last that was measured.
    create table build_history (
      organization_id uuid not null references organization on delete cascade,
      system text not null,
      package_name text not null,
      durations_ms bigint[] not null,
      peak_memory_mb integer,
      updated_at timestamptz not null default gradient_now(),
      primary key (organization_id, system, package_name)
    );
    create index build_history_updated_idx on build_history (updated_at);

    -- One row: what holds for all servers on this database.
    create table scheduler_state (
      id smallint primary key default 1 constraint scheduler_state_is_one_row check (id = 1),
      draining_since timestamptz,
      -- Builds that ended before are in the history.
      history_until timestamptz not null default gradient_now()
    );
    insert into scheduler_state default values;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop table scheduler_state, build_history;
    drop function gradient_package_name;
    drop index attempt_built_idx, attempt_deadline_idx;
    alter table attempt drop column deadline_at, drop column score;
    drop index evaluation_priority_idx, evaluation_waiting_idx;
    alter table evaluation drop column priority, drop column concurrent;
    drop index build_priority_idx, build_queue_idx;
    create index build_queue_idx on build (priority desc, ready_at, id) where status = 1;
  `.execute(db);
}
