import { type Kysely, sql } from "kysely";

/**
 * What has happened since the beginning, which rows that retention removes could no longer tell. Every count is a row
 * of its own, so that nobody waits for another's; rows are folded into one from time to time, and their sum is always
 * right. It costs a third of the update that ends a build. Besides: what all caches hold, unpacked, and the builds that
 * wait for others, which is the only state of an open build that had no index.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table metric_count (
      id bigint generated always as identity primary key,
      name text not null,
      value bigint not null
    );

    create function gradient_count_end() returns trigger language plpgsql as $$
    begin
      insert into metric_count (name, value) values (tg_table_name || '.' || new.status, 1);
      return null;
    end $$;
    create function gradient_count_new_ends() returns trigger language plpgsql as $$
    begin
      insert into metric_count (name, value)
      select 'build.' || status, count(*) from added where status in (3, 4, 5, 6, 7, 9) group by status;
      return null;
    end $$;
    create trigger build_count_end after update of status on build for each row
      when (new.status <> old.status and new.status in (3, 4, 5, 6, 7, 9)) execute function gradient_count_end();
    create trigger build_count_new after insert on build
      referencing new table as added for each statement execute function gradient_count_new_ends();
    create trigger evaluation_count_end after update of status on evaluation for each row
      when (new.status <> old.status and new.status in (5, 6, 7)) execute function gradient_count_end();
    create trigger evaluation_count_new after insert on evaluation for each row
      when (new.status in (5, 6, 7)) execute function gradient_count_end();

    insert into metric_count (name, value)
    select 'build.' || status, count(*) from build where status in (3, 4, 5, 6, 7, 9) group by status
    union all
    select 'evaluation.' || status, count(*) from evaluation where status in (5, 6, 7) group by status;

    create index build_created_idx on build (id) where status = 0;

    alter table cache_usage add column nar_bytes bigint not null default 0;
    create or replace function gradient_count_paths() returns trigger language plpgsql as $$
    begin
      if tg_op = 'INSERT' then
        insert into cache_usage (cache_id, paths, bytes, nar_bytes)
        select c.cache_id, count(*), sum(n.file_size), sum(n.nar_size)
        from changed c join nar n on n.nar_hash = c.nar_hash
        group by c.cache_id;
      else
        -- A cache that goes itself takes its rows along.
        insert into cache_usage (cache_id, paths, bytes, nar_bytes)
        select c.cache_id, -count(*), -sum(n.file_size), -sum(n.nar_size)
        from changed c join nar n on n.nar_hash = c.nar_hash
        where exists (select from cache where cache.id = c.cache_id)
        group by c.cache_id;
      end if;
      return null;
    end $$;
    create or replace function gradient_count_other_nar() returns trigger language plpgsql as $$
    begin
      insert into cache_usage (cache_id, paths, bytes, nar_bytes)
      select new.cache_id, 0, n.file_size - o.file_size, n.nar_size - o.nar_size
      from nar n, nar o where n.nar_hash = new.nar_hash and o.nar_hash = old.nar_hash;
      return null;
    end $$;
    insert into cache_usage (cache_id, paths, bytes, nar_bytes)
    select p.cache_id, 0, 0, sum(n.nar_size) from cache_path p join nar n on n.nar_hash = p.nar_hash
    group by p.cache_id;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    create or replace function gradient_count_paths() returns trigger language plpgsql as $$
    begin
      if tg_op = 'INSERT' then
        insert into cache_usage (cache_id, paths, bytes)
        select c.cache_id, count(*), sum(n.file_size) from changed c join nar n on n.nar_hash = c.nar_hash
        group by c.cache_id;
      else
        insert into cache_usage (cache_id, paths, bytes)
        select c.cache_id, -count(*), -sum(n.file_size) from changed c join nar n on n.nar_hash = c.nar_hash
        where exists (select from cache where cache.id = c.cache_id)
        group by c.cache_id;
      end if;
      return null;
    end $$;
    create or replace function gradient_count_other_nar() returns trigger language plpgsql as $$
    begin
      insert into cache_usage (cache_id, paths, bytes)
      select new.cache_id, 0, (select file_size from nar where nar_hash = new.nar_hash)
        - (select file_size from nar where nar_hash = old.nar_hash);
      return null;
    end $$;
    alter table cache_usage drop column nar_bytes;
    drop index build_created_idx;
    drop trigger evaluation_count_new on evaluation;
    drop trigger evaluation_count_end on evaluation;
    drop trigger build_count_new on build;
    drop trigger build_count_end on build;
    drop function gradient_count_new_ends, gradient_count_end;
    drop table metric_count;
  `.execute(db);
}
