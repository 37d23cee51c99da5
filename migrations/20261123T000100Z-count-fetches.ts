import { type Kysely, sql } from "kysely";

/** Whoever writes down that a path was used, as the edge does, may write down how often. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table cache_path add column fetch_count bigint not null default 0;
    do $$
    declare role name;
    begin
      for role in
        select distinct grantee from information_schema.column_privileges
        where table_schema = current_schema and table_name = 'cache_path' and column_name = 'last_used_at'
          and privilege_type = 'UPDATE' and grantee not in ('PUBLIC', current_user)
      loop
        execute format('grant update (fetch_count) on cache_path to %I', role);
      end loop;
    end $$`.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`alter table cache_path drop column fetch_count`.execute(db);
}
