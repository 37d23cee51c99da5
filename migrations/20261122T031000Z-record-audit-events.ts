import { type Kysely, sql } from "kysely";

/** Who did what: kept for a time, for the people themselves and for the admins of what it was done to. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- Rows outlive what they tell of; the names that matter then are in the metadata.
    create table audit_event (
      id uuid primary key,
      event text not null,
      user_id uuid references user_account on delete set null,
      -- What the user was called then.
      username text,
      organization_id uuid references organization on delete set null,
      cache_id uuid references cache on delete set null,
      ip text,
      user_agent text,
      metadata jsonb not null default '{}',
      created_at timestamptz not null default gradient_now()
    );
    create index audit_event_user_idx on audit_event (user_id, created_at, id);
    create index audit_event_organization_idx on audit_event (organization_id, created_at, id)
      where organization_id is not null;
    create index audit_event_cache_idx on audit_event (cache_id, created_at, id) where cache_id is not null;
    create index audit_event_created_idx on audit_event (created_at);
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`drop table audit_event`.execute(db);
}
