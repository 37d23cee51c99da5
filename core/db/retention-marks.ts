import { type Kysely, sql } from "kysely";
import { isRootOf, ROOT_SOURCES, type RootScope } from "./retention-roots.ts";
import type { Database } from "./schema.ts";

/** One look through a cache. The id is a UUIDv7, by which work that was left behind is told from new. */
export interface Mark {
  readonly id: string;
  readonly scope: RootScope;
}

/** Times that a reference can be below what refers to it; more have only rings, which no cache takes. */
const ROUNDS_MAX = 10_000;

/**
 * Notes the paths that were not used for `idleMs`, and have not come since, each with its last use, and answers how
 * many they are. One pass through the cache's rows: an index by last use would make every use write all other indexes
 * too.
 */
export async function noteIdlePaths(db: Kysely<Database>, { id, scope }: Mark, idleMs: number): Promise<number> {
  const { numAffectedRows } = await sql`
    insert into retention_path (mark_id, hash, store_path, nar_hash, file_size, last_used_at, used_at)
    select ${id}, p.hash, p.store_path, p.nar_hash, n.file_size, p.last_used_at, p.last_used_at
    from cache_path p join nar n on n.nar_hash = p.nar_hash
    where p.cache_id = ${scope.cacheId}
      and p.last_used_at < gradient_now() - ${idleMs}::float8 * interval '1 millisecond'`.execute(db);
  // Nobody has counted these rows yet, and the next statements join them with millions.
  await sql`analyze retention_path`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

/**
 * Carries every reason to stay down along the references: a root's use is infinity, as is that of what a path refers to
 * that was not noted, and what refers to a path hands its own use on. Afterwards `used_at` says for each path how long
 * its closure is needed, and is never earlier than that of anything that refers to it.
 */
export async function spreadUses(db: Kysely<Database>, mark: Mark): Promise<void> {
  const { id, scope } = mark;
  for (const source of ROOT_SOURCES) {
    await sql`
      update retention_path w set used_at = 'infinity'
      where w.mark_id = ${id} and w.used_at < 'infinity'
        and ${isRootOf(source, scope, sql.ref("w.store_path"))}`.execute(db);
  }
  await sql`
    update retention_path w set used_at = 'infinity'
    from (
      select distinct left(r.path, 32) as hash
      from cache_path p cross join lateral unnest(p."references") r (path)
      where p.cache_id = any(${scope.referringCacheIds}::uuid[]) and (p.cache_id <> ${scope.cacheId}
        or not exists (select from retention_path o where o.mark_id = ${id} and o.hash = p.hash))
    ) needed
    where w.mark_id = ${id} and w.hash = needed.hash and w.used_at < 'infinity'`.execute(db);
  let raised = await handDown(db, mark, 0);
  for (let round = 1; raised > 0 && round < ROUNDS_MAX; round++) {
    raised = await handDown(db, mark, round);
    await forgetStep(db, id, round);
  }
}

/** Each path of the round hands its use to what it refers to; those that it raises are the next round's. */
async function handDown(db: Kysely<Database>, { id, scope }: Mark, round: number): Promise<number> {
  const among =
    round === 0
      ? sql`retention_path f`
      : sql`(select subject from retention_step where mark_id = ${id} and step = ${round}) s
          join retention_path f on f.hash = s.subject`;
  const { numAffectedRows } = await sql`
    with raised as (
      update retention_path w set used_at = above.used_at
      from (
        select left(r.path, 32) as hash, max(f.used_at) as used_at
        from ${among}
        join cache_path p on p.cache_id = ${scope.cacheId} and p.hash = f.hash
        cross join lateral unnest(p."references") r (path)
        where f.mark_id = ${id}
        group by 1
      ) above
      where w.mark_id = ${id} and w.hash = above.hash and w.used_at < above.used_at
      returning w.hash
    )
    insert into retention_step (mark_id, step, subject) select ${id}, ${round + 1}, hash from raised`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

/** Dooms what nothing keeps: what was unused for so long (0: nothing), and of the rest the least lately used. */
export async function doomPaths(
  db: Kysely<Database>,
  { id }: Mark,
  { unusedMs, freeBytes }: { readonly unusedMs: number; readonly freeBytes: number },
): Promise<void> {
  // Paths of one use go together: they are one closure.
  await sql`
    with use as (
      select used_at, sum(file_size) as bytes from retention_path
      where mark_id = ${id} and used_at < 'infinity' group by used_at
    ), ordered as (
      select used_at, sum(bytes) over (order by used_at) - bytes as freed_before from use
    )
    update retention_path w set doomed = true
    from ordered o
    where w.mark_id = ${id} and w.used_at = o.used_at and (o.freed_before < ${freeBytes}
      or (${unusedMs > 0} and o.used_at < gradient_now() - ${unusedMs}::float8 * interval '1 millisecond'))`.execute(
    db,
  );
  await sql`analyze retention_path`.execute(db);
}

export interface Doomed {
  readonly paths: number;
  /** Of the files that these paths are served from. */
  readonly bytes: number;
  /** Of files that nothing else is served from. */
  readonly freed_bytes: number;
}

export async function sumDoomed(db: Kysely<Database>, { id }: Mark): Promise<Doomed> {
  // A file is freed when as many of its paths are doomed as there are: all of those are this cache's.
  const { rows } = await sql<Doomed>`
    with doomed as materialized (
      select nar_hash, count(*) as paths, sum(file_size) as bytes, max(file_size) as file_size
      from retention_path where mark_id = ${id} and doomed group by nar_hash
    )
    select coalesce(sum(d.paths), 0)::float8 as paths, coalesce(sum(d.bytes), 0)::float8 as bytes,
      coalesce(sum(d.file_size) filter (where d.paths = (
        select count(*) from cache_path p where p.nar_hash = d.nar_hash)), 0)::float8 as freed_bytes
    from doomed d`.execute(db);
  return rows[0] as Doomed;
}

export interface DoomedPath {
  /** Base name. */
  readonly store_path: string;
  readonly file_size: number;
  readonly last_used_at: Date;
}

/** The largest of them. */
export async function listDoomed(db: Kysely<Database>, { id }: Mark, limit: number): Promise<DoomedPath[]> {
  return await db
    .selectFrom("retention_path")
    .select(["store_path", "file_size", "last_used_at"])
    .where("mark_id", "=", id)
    .where("doomed", "=", true)
    .orderBy("file_size", "desc")
    .orderBy("store_path")
    .limit(limit)
    .execute();
}

export async function forgetStep(db: Kysely<Database>, markId: string, step: number): Promise<void> {
  await db.deleteFrom("retention_step").where("mark_id", "=", markId).where("step", "=", step).execute();
}

export async function forgetMark(db: Kysely<Database>, markId: string): Promise<void> {
  await db.deleteFrom("retention_step").where("mark_id", "=", markId).execute();
  await db.deleteFrom("retention_path").where("mark_id", "=", markId).execute();
}

/** Work that a process left behind when it died: of ids that are older than this one. */
export async function forgetOldMarks(db: Kysely<Database>, beforeId: string): Promise<void> {
  await db.deleteFrom("retention_step").where("mark_id", "<", beforeId).execute();
  await db.deleteFrom("retention_path").where("mark_id", "<", beforeId).execute();
}
