import { type Kysely, sql } from "kysely";

/** What lists, searches and periodic work look for is found without reading whole tables. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create index user_account_superuser_idx on user_account (id) where superuser`.execute(db);
  await sql`create index organization_public_idx on organization (name) where public`.execute(db);
  await sql`create index cache_public_idx on cache (name) where public`.execute(db);
  // Only internal stores have an organization. Its deletion looks for them without naming their kind.
  await sql`create unique index cache_organization_key on cache (organization_id)`.execute(db);
  await sql`drop index cache_internal_key`.execute(db);
  await sql`create index mail_asked_idx on mail (id) where login_name is not null`.execute(db);
  await sql`create index upstream_path_found_idx on upstream_path (seen_at) where found`.execute(db);
  await sql`create index cache_log_created_idx on cache_log (created_at)`.execute(db);
  // Parts of names. The extension comes with PostgreSQL and needs no superuser, but some systems package it on its own:
  // without it the search reads all users.
  await sql`
    do $$ begin
      create extension if not exists pg_trgm;
      create index user_account_username_part_idx on user_account using gin (lower(username) gin_trgm_ops);
      create index user_account_name_part_idx on user_account using gin (lower(name) gin_trgm_ops);
    exception when feature_not_supported or undefined_file or insufficient_privilege or undefined_object then
      raise warning 'pg_trgm is not installed: the search for users reads all of them';
    end $$`.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`drop index if exists user_account_name_part_idx, user_account_username_part_idx`.execute(db);
  await sql`drop index cache_log_created_idx`.execute(db);
  await sql`drop index upstream_path_found_idx`.execute(db);
  await sql`drop index mail_asked_idx`.execute(db);
  await sql`create unique index cache_internal_key on cache (organization_id) where kind = 1`.execute(db);
  await sql`drop index cache_organization_key`.execute(db);
  await sql`drop index cache_public_idx`.execute(db);
  await sql`drop index organization_public_idx`.execute(db);
  await sql`drop index user_account_superuser_idx`.execute(db);
}
