import { type Kysely, sql } from "kysely";

/**
 * Builds that end together are counted together, in one row a state: a statement that ended 64 builds called a function
 * and wrote a row for each of them.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop trigger build_count_end on build;
    create function gradient_count_build_ends() returns trigger language plpgsql as $$
    begin
      -- Most statements end nothing, and comparing with what was before costs more than looking for ends.
      if exists (select from after where status in (3, 4, 5, 6, 7, 9)) then
        insert into metric_count (name, value)
        select 'build.' || a.status, count(*) from after a join before b on b.id = a.id
        where a.status <> b.status and a.status in (3, 4, 5, 6, 7, 9)
        group by a.status;
      end if;
      return null;
    end $$;
    create trigger build_count_end after update on build
      referencing old table as before new table as after
      for each statement execute function gradient_count_build_ends();
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop trigger build_count_end on build;
    drop function gradient_count_build_ends;
    create trigger build_count_end after update of status on build for each row
      when (new.status <> old.status and new.status in (3, 4, 5, 6, 7, 9)) execute function gradient_count_end();
  `.execute(db);
}
