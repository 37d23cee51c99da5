import { type Kysely, sql } from "kysely";

/** What starts evaluations by itself, and which of them each evaluation was started by. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table project_trigger (
      id uuid primary key,
      project_id uuid not null references project on delete cascade,
      -- 0 polling, 1 reporter_push, 2 reporter_pull_request, 3 time
      type smallint not null,
      -- With every default filled in, without its type.
      config jsonb not null,
      active boolean not null default true,
      -- Whoever changes the row counts it up: what was decided on an older row is dropped.
      revision integer not null default 0,
      -- When it is looked at next; null where something else has to happen.
      due_at timestamptz,
      -- The last commit that it evaluated, or found evaluated.
      last_commit text,
      last_checked_at timestamptz,
      last_fired_at timestamptz,
      -- Why it could not be looked at, until it could, and how often in a row that was so.
      last_error text,
      failures integer not null default 0,
      created_at timestamptz not null default gradient_now(),
      updated_at timestamptz not null default gradient_now()
    );
    create index project_trigger_project_idx on project_trigger (project_id, created_at, id);
    -- Serves listDueTriggers: same filter, same order.
    create index project_trigger_due_idx on project_trigger (due_at) where active and due_at is not null;

    -- The type outlives the trigger: what an evaluation may be used for depends on it.
    alter table evaluation add column trigger_id uuid references project_trigger on delete set null;
    alter table evaluation add column trigger_type smallint;
    create index evaluation_trigger_idx on evaluation (trigger_id) where trigger_id is not null;
    -- Serves findCommit: a commit's id is the beginning of its hash.
    create index evaluation_commit_idx on evaluation (left(commit_hash, 32));
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop index evaluation_commit_idx, evaluation_trigger_idx;
    alter table evaluation drop column trigger_type, drop column trigger_id;
    drop table project_trigger;
  `.execute(db);
}
