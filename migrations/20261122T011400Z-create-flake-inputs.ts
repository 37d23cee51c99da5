import { type Kysely, sql } from "kysely";

/** Inputs of a project's flake that are not what its lock says, and sources that one worker fetches for another. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- url null: the newest state of what the flake names. Serves listFlakeInputs by its key.
    create table project_flake_input (
      id uuid primary key,
      project_id uuid not null references project on delete cascade,
      input_name text not null,
      url text,
      created_at timestamptz not null default gradient_now(),
      updated_at timestamptz not null default gradient_now(),
      constraint project_flake_input_key unique (project_id, input_name)
    );

    -- As they were when the evaluation was made: an array of {input, url}.
    alter table evaluation add column input_overrides jsonb not null default '[]';
    -- Where a fetch has put the flake: {reference, wrapped, paths}. Null before.
    alter table evaluation add column source jsonb;

    -- Kind 2: a fetch.
    alter table attempt drop constraint attempt_subject;
    alter table attempt add constraint attempt_subject check (
      (kind in (0, 2)) = (evaluation_id is not null) and (kind = 1) = (build_id is not null));
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    delete from attempt where kind = 2;
    alter table attempt drop constraint attempt_subject;
    alter table attempt add constraint attempt_subject check (
      (kind = 0) = (evaluation_id is not null) and (kind = 1) = (build_id is not null));
    alter table evaluation drop column source, drop column input_overrides;
    drop table project_flake_input;
  `.execute(db);
}
