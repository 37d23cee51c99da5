import { type Kysely, sql } from "kysely";

/** What is large is deleted bit by bit: nobody sees it from the first moment on. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- Set: it has no members, workers and secrets any more, and its rows go in the background.
    alter table organization add column deleted_at timestamptz;
    create index organization_deleted_idx on organization (deleted_at) where deleted_at is not null;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    delete from organization where deleted_at is not null;
    alter table organization drop column deleted_at;
  `.execute(db);
}
