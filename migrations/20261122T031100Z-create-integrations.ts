import { type Kysely, sql } from "kysely";

/** How an organization meets its forges: what they send, and where reports go. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- kind: 0 inbound (a forge calls), 1 outbound (the server calls a forge).
    -- forge_type: 0 gitea, 1 forgejo, 2 gitlab, 3 github.
    create table integration (
      id uuid primary key,
      organization_id uuid not null references organization on delete cascade,
      kind smallint not null constraint integration_kind_is_known check (kind in (0, 1)),
      forge_type smallint not null constraint integration_forge_is_known check (forge_type between 0 and 3),
      name text not null,
      display_name text not null,
      endpoint_url text,
      -- Sealed for this row.
      secret bytea,
      access_token bytea,
      -- Canonical networks; empty lets every address in.
      allowed_ips text[] not null default '{}',
      -- Of a GitHub App.
      installation_id bigint,
      account_login text,
      managed boolean not null default false,
      created_by uuid references user_account on delete set null,
      created_at timestamptz not null default gradient_now(),
      constraint integration_name_key unique (organization_id, kind, name)
    );
    create index integration_created_by_idx on integration (created_by);
    create index integration_installation_idx on integration (installation_id) where installation_id is not null;

    -- Sealed for this row: what forges sign with that have no integration of their own.
    alter table organization add column webhook_secret bytea;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table organization drop column webhook_secret;
    drop table integration;
  `.execute(db);
}
