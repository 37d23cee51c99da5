import { type Kysely, sql } from "kysely";

/** What the state file of a server needs beside the rows that it declares. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- Members that are declared and have no account yet. They become members when they get one.
    create table pending_member (
      organization_id uuid references organization on delete cascade,
      role_id uuid references role on delete cascade,
      cache_id uuid references cache on delete cascade,
      cache_role_id uuid references cache_role on delete cascade,
      username text not null,
      created_at timestamptz not null default gradient_now(),
      constraint pending_member_is_whole check (
        (organization_id is not null and role_id is not null and cache_id is null and cache_role_id is null)
        or (cache_id is not null and cache_role_id is not null and organization_id is null and role_id is null))
    );
    create unique index pending_member_organization_key on pending_member (organization_id, lower(username))
      where organization_id is not null;
    create unique index pending_member_cache_key on pending_member (cache_id, lower(username))
      where cache_id is not null;
    -- Serves a new account.
    create index pending_member_username_idx on pending_member (lower(username));
    create index pending_member_role_idx on pending_member (role_id);
    create index pending_member_cache_role_idx on pending_member (cache_role_id);

    -- Put there by the state file, which takes it away again.
    alter table organization_member add column managed boolean not null default false;
    alter table cache_member add column managed boolean not null default false;
    alter table organization_cache add column managed boolean not null default false;

    -- Workers that any organization may use. Each that does has a registration of its own, which copies what is here.
    create table base_worker (
      id uuid primary key,
      worker_id uuid not null constraint base_worker_key unique,
      display_name text not null,
      token_hash text not null,
      url text,
      enabled boolean not null default true,
      enable_fetch boolean not null default true,
      enable_eval boolean not null default true,
      enable_build boolean not null default true,
      -- To whom the worker proves itself, once for all organizations; null: to each of them.
      authorize_against uuid,
      created_by uuid references user_account on delete set null,
      created_at timestamptz not null default gradient_now()
    );
    create index base_worker_created_by_idx on base_worker (created_by);
    alter table worker_registration
      add column base_worker_id uuid references base_worker on delete cascade,
      -- Of a base worker: whether the organization wants it. It is active while the worker is enabled, too.
      add column opted_in boolean not null default true;
    create index worker_registration_base_idx on worker_registration (base_worker_id) where base_worker_id is not null;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    delete from worker_registration where base_worker_id is not null;
    alter table worker_registration drop column opted_in, drop column base_worker_id;
    drop table base_worker;
    alter table organization_cache drop column managed;
    alter table cache_member drop column managed;
    alter table organization_member drop column managed;
    drop table pending_member;
  `.execute(db);
}
