import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // One for each evaluation that has ended. What it was compared with has no foreign key: it may be gone one day, and
  // the end of an evaluation waits for nobody who removes another one.
  await sql`
    create table evaluation_verdict (
      evaluation_id uuid primary key references evaluation on delete cascade,
      base_id uuid,
      ended_at timestamptz not null default gradient_now(),
      record jsonb
    )`.execute(db);
  await sql`
    create index evaluation_verdict_open_idx on evaluation_verdict (ended_at) where record is null`.execute(db);
  await sql`
    create index evaluation_verdict_base_idx on evaluation_verdict (base_id) where record is null`.execute(db);
  // The revisions in its lock file; null where nobody said them.
  await sql`alter table evaluation add column locked_inputs jsonb`.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`alter table evaluation drop column locked_inputs`.execute(db);
  await sql`drop table evaluation_verdict`.execute(db);
}
