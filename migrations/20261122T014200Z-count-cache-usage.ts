import { type Kysely, sql } from "kysely";

/**
 * How much each cache holds, without adding up its NARs. Every change is a row of its own, so that commits to one cache
 * do not wait for each other; rows are folded into one from time to time, and their sum is always right.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table cache_usage (
      id bigint generated always as identity primary key,
      cache_id uuid not null references cache on delete cascade,
      paths bigint not null,
      -- Of the files that the paths are served from; a file counts for each of its paths.
      bytes bigint not null
    );
    create index cache_usage_cache_idx on cache_usage (cache_id);

    create function gradient_count_paths() returns trigger language plpgsql as $$
    begin
      if tg_op = 'INSERT' then
        insert into cache_usage (cache_id, paths, bytes)
        select c.cache_id, count(*), sum(n.file_size) from changed c join nar n on n.nar_hash = c.nar_hash
        group by c.cache_id;
      else
        -- A cache that goes itself takes its rows along.
        insert into cache_usage (cache_id, paths, bytes)
        select c.cache_id, -count(*), -sum(n.file_size) from changed c join nar n on n.nar_hash = c.nar_hash
        where exists (select from cache where cache.id = c.cache_id)
        group by c.cache_id;
      end if;
      return null;
    end $$;
    create trigger cache_path_count_added after insert on cache_path
      referencing new table as changed for each statement execute function gradient_count_paths();
    create trigger cache_path_count_gone after delete on cache_path
      referencing old table as changed for each statement execute function gradient_count_paths();

    create function gradient_count_other_nar() returns trigger language plpgsql as $$
    begin
      insert into cache_usage (cache_id, paths, bytes)
      select new.cache_id, 0, (select file_size from nar where nar_hash = new.nar_hash)
        - (select file_size from nar where nar_hash = old.nar_hash);
      return null;
    end $$;
    create trigger cache_path_count_other after update of nar_hash on cache_path
      for each row when (old.nar_hash <> new.nar_hash) execute function gradient_count_other_nar();

    create function gradient_count_other_file() returns trigger language plpgsql as $$
    begin
      insert into cache_usage (cache_id, paths, bytes)
      select cache_id, 0, count(*) * (new.file_size - old.file_size) from cache_path
      where nar_hash = new.nar_hash group by cache_id;
      return null;
    end $$;
    create trigger nar_count_other_file after update of file_size on nar
      for each row when (old.file_size <> new.file_size) execute function gradient_count_other_file();

    insert into cache_usage (cache_id, paths, bytes)
    select p.cache_id, count(*), sum(n.file_size) from cache_path p join nar n on n.nar_hash = p.nar_hash
    group by p.cache_id;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop trigger nar_count_other_file on nar;
    drop trigger cache_path_count_other on cache_path;
    drop trigger cache_path_count_gone on cache_path;
    drop trigger cache_path_count_added on cache_path;
    drop function gradient_count_other_file, gradient_count_other_nar, gradient_count_paths;
    drop table cache_usage;
  `.execute(db);
}
