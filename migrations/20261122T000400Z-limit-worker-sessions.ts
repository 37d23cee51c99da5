import { type Kysely, sql } from "kysely";

/** A worker's session belongs to the organizations that it proved itself to: others may register the same worker id. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- Of the open rows of one worker id at most one holds any given organization.
    alter table worker_connection add column organization_ids uuid[] not null default '{}';
    alter table worker_connection alter column organization_ids drop default;
    drop index worker_connection_open_key;
    create index worker_connection_open_idx on worker_connection (worker_id) where disconnected_at is null;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    update worker_connection set disconnected_at = gradient_now() where disconnected_at is null;
    drop index worker_connection_open_idx;
    create unique index worker_connection_open_key on worker_connection (worker_id) where disconnected_at is null;
    alter table worker_connection drop column organization_ids;
  `.execute(db);
}
