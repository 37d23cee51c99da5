import { type Kysely, sql } from "kysely";

/**
 * What failed on a host is held by the host's name, and outlives the row that is forgotten: a bad system must not come
 * again because somebody tidied up.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    update deployment_hold d set failed_host = h.name from host h where h.id = d.host_id;
    alter table deployment_hold drop column host_id;
    create unique index deployment_hold_commit_key on deployment_hold (project_id, commit_hash)
      where store_path is null;
    create unique index deployment_hold_host_key on deployment_hold (project_id, failed_host, store_path)
      where store_path is not null;
  `.execute(db);
}

/** What is held of forgotten hosts goes. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop index deployment_hold_commit_key, deployment_hold_host_key;
    alter table deployment_hold add column host_id uuid references host on delete cascade;
    update deployment_hold d set host_id = h.id from host h
      where h.project_id = d.project_id and h.name = d.failed_host and d.store_path is not null;
    delete from deployment_hold where store_path is not null and host_id is null;
    create unique index deployment_hold_commit_key on deployment_hold (project_id, commit_hash) where host_id is null;
    create unique index deployment_hold_host_key on deployment_hold (host_id, store_path) where host_id is not null;
  `.execute(db);
}
