import { type Kysely, sql } from "kysely";

/** Long work on the whole instance that a superuser has asked for. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table admin_task (
      id uuid primary key,
      kind text not null,
      -- 0 pending, 1 running, 2 completed, 3 failed, 4 cancelled.
      status smallint not null default 0,
      created_by uuid references user_account on delete set null,
      created_at timestamptz not null default gradient_now(),
      started_at timestamptz,
      finished_at timestamptz,
      parameters jsonb not null,
      -- Where it is; another server goes on from there.
      progress jsonb,
      report jsonb,
      error text,
      cancel_wanted boolean not null default false
    );
    create unique index admin_task_active_key on admin_task (kind) where status in (0, 1);
    create index admin_task_created_idx on admin_task (created_at);
    create index admin_task_created_by_idx on admin_task (created_by);
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`drop table admin_task`.execute(db);
}
