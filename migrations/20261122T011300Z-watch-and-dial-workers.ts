import { type Kysely, sql } from "kysely";

/** How workers' machines are doing, and workers that the server dials. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- What the worker measured last; null before it has.
    alter table worker_connection add column metrics jsonb;

    -- The same over time, a row every few seconds of a session.
    create table worker_sample (
      connection_id uuid not null references worker_connection on delete cascade,
      at timestamptz not null default gradient_now(),
      metrics jsonb not null,
      primary key (connection_id, at)
    );
    -- Old samples are removed by their age.
    create index worker_sample_at_idx on worker_sample (at);
    -- A worker's sessions, the newest first.
    create index worker_connection_worker_idx on worker_connection (worker_id, connected_at);

    -- No server dials the worker before this time: another one does at the moment, or the last try failed.
    alter table worker_registration add column dial_after timestamptz;
    alter table worker_registration add column dial_failures integer not null default 0;
    -- Why the last try failed; null when it did not.
    alter table worker_registration add column dial_error text;
    create index worker_registration_dial_idx on worker_registration (dial_after)
      where active and url is not null;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop index worker_registration_dial_idx;
    alter table worker_registration drop column dial_error, drop column dial_failures, drop column dial_after;
    drop index worker_connection_worker_idx;
    drop table worker_sample;
    alter table worker_connection drop column metrics;
  `.execute(db);
}
