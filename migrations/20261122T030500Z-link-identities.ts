import { type Kysely, sql } from "kysely";

/** Who a user is at the identity provider, and what the provider's groups make of them here. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table user_identity (
      user_id uuid primary key references user_account on delete cascade,
      issuer text not null,
      subject text not null,
      linked_at timestamptz not null default gradient_now(),
      constraint user_identity_key unique (issuer, subject)
    );

    -- Sign-ins that came back from the provider: none comes back twice.
    create table oidc_return (
      -- SHA-256 of the state.
      state_hash bytea primary key,
      expires_at timestamptz not null
    );
    create index oidc_return_expires_idx on oidc_return (expires_at);

    -- Members of these groups at the provider have the role.
    alter table role
      add column oidc_groups text[] not null default '{}',
      add column scim_groups text[] not null default '{}';
    create index role_oidc_groups_idx on role using gin (oidc_groups);

    -- Memberships that hold because of a group: organization_member has the same role.
    create table group_membership (
      organization_id uuid not null,
      user_id uuid not null,
      role_id uuid not null references role on delete cascade,
      -- What the member has without any group; null: nothing.
      own_role_id uuid references role on delete set null,
      primary key (organization_id, user_id),
      constraint group_membership_member_fkey foreign key (organization_id, user_id)
        references organization_member on delete cascade
    );
    create index group_membership_user_idx on group_membership (user_id);
    create index group_membership_role_idx on group_membership (role_id);
    create index group_membership_own_role_idx on group_membership (own_role_id);

    -- Who gives a member another role gives it for good, whatever the groups said before.
    create function gradient_overrule_group() returns trigger language plpgsql as $$
      begin
        delete from group_membership where organization_id = new.organization_id and user_id = new.user_id;
        return null;
      end $$;
    create trigger organization_member_overrule after update of role_id on organization_member
      for each row when (old.role_id <> new.role_id) execute function gradient_overrule_group();

    -- A provider may tell no address: any number of users have none.
    drop index user_account_email_key;
    create unique index user_account_email_key on user_account (lower(email)) where email <> '';
    create index user_account_email_idx on user_account (lower(email));
  `.execute(db);
}

/** Users without an address get one that is nobody's: without it no two of them could stay. */
export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    update user_account set email = id || '@users.invalid' where email = '';
    drop index user_account_email_idx, user_account_email_key;
    create unique index user_account_email_key on user_account (lower(email));
    drop trigger organization_member_overrule on organization_member;
    drop function gradient_overrule_group;
    drop table group_membership, oidc_return, user_identity;
    alter table role drop column oidc_groups, drop column scim_groups;
  `.execute(db);
}
