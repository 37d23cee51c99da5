import { type Kysely, sql } from "kysely";

/** Who may do what: people, their sessions and keys, organizations with members and roles. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- The one source of time for rows, so that a simulation can set it (set gradient.now = '...').
    create function gradient_now() returns timestamptz language sql stable as
      $$ select coalesce(nullif(current_setting('gradient.now', true), '')::timestamptz, clock_timestamp()) $$;

    create table user_account (
      id uuid primary key,
      username text not null,
      name text not null,
      email text not null,
      password_hash text,
      email_verified boolean not null default false,
      superuser boolean not null default false,
      active boolean not null default true,
      managed boolean not null default false,
      created_at timestamptz not null default gradient_now(),
      last_login_at timestamptz
    );
    create unique index user_account_username_key on user_account (lower(username));
    create unique index user_account_email_key on user_account (lower(email));

    create table session (
      id uuid primary key,
      user_id uuid not null references user_account on delete cascade,
      created_at timestamptz not null default gradient_now(),
      expires_at timestamptz not null,
      last_used_at timestamptz not null default gradient_now(),
      revoked_at timestamptz,
      remember_me boolean not null default false,
      user_agent text,
      ip text
    );
    create index session_user_idx on session (user_id);

    create table organization (
      id uuid primary key,
      name text not null constraint organization_name_key unique,
      display_name text not null,
      description text not null,
      public boolean not null default false,
      hide_build_requests boolean not null default false,
      ssh_public_key text not null,
      ssh_secret_key bytea not null,
      managed boolean not null default false,
      created_by uuid references user_account on delete set null,
      created_at timestamptz not null default gradient_now()
    );
    create index organization_created_by_idx on organization (created_by);

    -- Roles of an organization; without one, the built-in roles that every organization has.
    create table role (
      id uuid primary key,
      organization_id uuid references organization on delete cascade,
      name text not null,
      permissions bigint not null,
      managed boolean not null default false,
      created_at timestamptz not null default gradient_now(),
      constraint role_name_key unique nulls not distinct (organization_id, name)
    );

    create table organization_member (
      organization_id uuid not null references organization on delete cascade,
      user_id uuid not null references user_account on delete cascade,
      role_id uuid not null references role,
      created_at timestamptz not null default gradient_now(),
      primary key (organization_id, user_id)
    );
    create index organization_member_user_idx on organization_member (user_id);
    create index organization_member_role_idx on organization_member (role_id);

    insert into role (id, organization_id, name, permissions) values
      ('00000000-0000-0000-0000-000000000001', null, 'Admin', ${sql.lit(0b11_1111_1111_1111)}),
      ('00000000-0000-0000-0000-000000000002', null, 'Write', ${sql.lit(0b11_1111_1110_0001)}),
      ('00000000-0000-0000-0000-000000000003', null, 'View', ${sql.lit(0b00_0011_1010_0001)});
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop table organization_member, role, organization, session, user_account;
    drop function gradient_now;
  `.execute(db);
}
