import { type Kysely, sql } from "kysely";

/** Which branch an evaluation was made for, and how what it builds gets to hosts. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table project
      -- Null: the one that its triggers name, else its repository's default.
      add column deploy_branch text,
      -- A commit that failed on one host is kept from the others.
      add column deploy_hold boolean not null default true,
      add column deploy_wave_percent smallint not null default 100,
      add column deploy_soak_seconds integer not null default 0,
      -- As the repository named it last.
      add column default_branch text;

    alter table evaluation
      -- Of the project's own repository; null for what is of none.
      add column branch text,
      -- What it builds may go to hosts.
      add column deploys boolean not null default false;
    -- Serves listWantedSystems: same filter, same order.
    create index evaluation_deploy_idx on evaluation (project_id, branch, ordinal desc) where deploys;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop index evaluation_deploy_idx;
    alter table evaluation drop column deploys, drop column branch;
    alter table project drop column default_branch, drop column deploy_soak_seconds, drop column deploy_wave_percent,
      drop column deploy_hold, drop column deploy_branch;
  `.execute(db);
}
