import { type Kysely, type RawBuilder, sql } from "kysely";
import type { NarFault, NarHealer } from "../domain/nar-health.ts";
import type { NarObject } from "./nar-health.ts";
import type { Database, NarRow } from "./schema.ts";
import { databaseNowPlus } from "./time.ts";

export type DamagedNar = NarRow & {
  /** Repairs that were tried in vain. */
  readonly attempts: number;
};

/** Damaged NARs whose next repair is due, those first that have waited longest. */
export async function listRepairsDue(db: Kysely<Database>, limit: number): Promise<DamagedNar[]> {
  return await db
    .selectFrom("nar_damage")
    .innerJoin("nar", "nar.object_key", "nar_damage.object_key")
    .selectAll("nar")
    .select("nar_damage.attempts")
    .where("nar_damage.healed_at", "is", null)
    .where("nar_damage.retry_at", "<=", databaseNowPlus(0))
    .where("nar.damaged_at", "is not", null)
    .orderBy("nar_damage.retry_at")
    .limit(limit)
    .execute();
}

/** One damaged NAR with what was tried. Undefined when it is damaged no more, or gone. */
export async function findDamagedNar(db: Kysely<Database>, narHash: Uint8Array): Promise<DamagedNar | undefined> {
  return await db
    .selectFrom("nar")
    .innerJoin("nar_damage", "nar_damage.object_key", "nar.object_key")
    .selectAll("nar")
    .select("nar_damage.attempts")
    .where("nar_damage.healed_at", "is", null)
    .where("nar.nar_hash", "=", narHash)
    .where("nar.damaged_at", "is not", null)
    .executeTakeFirst();
}

/** A repair was in vain: `problem` says why, in words for superusers. */
export async function postponeRepair(
  db: Kysely<Database>,
  { objectKey }: Pick<NarObject, "objectKey">,
  { problem, pauseMs }: { readonly problem: string; readonly pauseMs: number },
): Promise<void> {
  await db
    .updateTable("nar_damage")
    .set((column) => ({
      attempts: column("nar_damage.attempts", "+", 1),
      retry_at: databaseNowPlus(pauseMs),
      problem,
    }))
    .where("object_key", "=", objectKey)
    .where("healed_at", "is", null)
    .execute();
}

export interface PathToRepair {
  readonly cache_id: string;
  /** Of an organization's own store; null for a cache. */
  readonly organization_id: string | null;
  /** Base name. */
  readonly store_path: string;
}

/** Paths that are served from this NAR, one for each name and cache: whoever has one of them has its bytes. */
export async function listPathsToRepair(
  db: Kysely<Database>,
  narHash: Uint8Array,
  limit: number,
): Promise<PathToRepair[]> {
  return await db
    .selectFrom("cache_path")
    .innerJoin("cache", "cache.id", "cache_path.cache_id")
    .select(["cache_path.cache_id", "cache_path.store_path", "cache.organization_id"])
    .where("cache_path.nar_hash", "=", narHash)
    .orderBy("cache_path.store_path")
    .orderBy("cache_path.cache_id")
    .limit(limit)
    .execute();
}

export interface DamagedReference {
  readonly cache_id: string;
  /** Base name. */
  readonly store_path: string;
}

/**
 * Damaged paths that others in their cache refer to and are offered nevertheless, after one of them. What is to be had
 * from an upstream as well is among them.
 */
export async function listDamagedReferences(
  db: Kysely<Database>,
  { after, limit }: { readonly after: DamagedReference | null; readonly limit: number },
): Promise<DamagedReference[]> {
  const result = await sql<DamagedReference>`
    select distinct p.cache_id, p.store_path
    from nar_damage d
    join nar n on n.object_key = d.object_key and n.damaged_at is not null
    join cache_path p on p.nar_hash = n.nar_hash
    where d.healed_at is null
      and (${after?.cache_id ?? null}::uuid is null
        or (p.cache_id, p.store_path) > (${after?.cache_id ?? null}::uuid, ${after?.store_path ?? ""}))
      and exists (
      select from cache_path r
      where r.cache_id = p.cache_id and r."references" @> array[p.store_path] and r.store_path <> p.store_path
        and r.incomplete_at is null)
    order by p.cache_id, p.store_path
    limit ${limit}`.execute(db);
  return result.rows;
}

export interface WantedNar {
  /** Of the damage; the next page begins after it. */
  readonly id: number;
  readonly nar_hash: Uint8Array;
  readonly nar_size: number;
  /** Base name. */
  readonly store_path: string;
  /** Those that the path belongs to, of the ones that were asked about. */
  readonly organization_ids: string[];
}

/**
 * What workers of these organizations may bring back: damaged NARs that no store or upstream gave, under paths of the
 * organization's own store and of caches that it writes to. Nobody else's worker is told that there is such a path.
 */
export async function listNarsWanted(
  db: Kysely<Database>,
  organizationIds: readonly string[],
  { after, limit }: { readonly after: number; readonly limit: number },
): Promise<WantedNar[]> {
  const result = await sql<WantedNar>`
    select d.id, n.nar_hash, n.nar_size, p.store_path, array_agg(distinct o.id) as organization_ids
    from nar_damage d
    join nar n on n.object_key = d.object_key and n.damaged_at is not null
    join cache_path p on p.nar_hash = n.nar_hash
    join cache c on c.id = p.cache_id
    join unnest(${organizationIds}::uuid[]) as o(id) on (
      c.organization_id = o.id and c.kind = 1
      or c.kind = 0 and exists (select from organization_cache s
        where s.cache_id = c.id and s.organization_id = o.id and s.mode in (0, 2)))
    where d.id > ${after} and d.healed_at is null and d.attempts > 0
    group by d.id, n.nar_hash, p.store_path
    order by d.id, p.store_path
    limit ${limit}`.execute(db);
  return result.rows.map((row) => ({ ...row, id: Number(row.id) }));
}

export interface DamageRecord {
  readonly object_key: string;
  readonly nar_hash: Uint8Array;
  readonly fault: NarFault;
  readonly message: string;
  readonly found_at: Date;
  readonly attempts: number;
  readonly problem: string | null;
  readonly healed_at: Date | null;
  readonly healed_by: NarHealer | null;
  /** Its NAR was removed before it was repaired. */
  readonly removed: boolean;
}

/** What was found last. */
export async function listDamages(db: Kysely<Database>, limit: number): Promise<DamageRecord[]> {
  return await db
    .selectFrom("nar_damage")
    .leftJoin("nar", "nar.object_key", "nar_damage.object_key")
    .selectAll("nar_damage")
    .select((column) =>
      column
        .and([column("nar_damage.healed_at", "is", null), column("nar.object_key", "is", null)])
        .$castTo<boolean>()
        .as("removed"),
    )
    .orderBy("nar_damage.found_at", "desc")
    .orderBy("nar_damage.object_key")
    .limit(limit)
    .execute();
}

/** Forgets what was healed, or removed, long ago; it stays counted. Returns how many there were. */
export async function deleteOldDamages(
  db: Kysely<Database>,
  { ageMs, limit }: { readonly ageMs: number; readonly limit: number },
): Promise<number> {
  const result = await sql<{ deleted: number }>`
    with deleted as (
      delete from nar_damage where id in (
        select d.id from nar_damage d
        where d.found_at < gradient_now() - ${ageMs} * interval '1 millisecond'
          and (d.healed_at is not null or not exists (select from nar n where n.object_key = d.object_key))
        order by d.found_at limit ${limit})
      returning fault, healed_by
    ), counted as (
      insert into integrity_count (name, value)
      select name, count(*) from (${countNames(sql`deleted`)}) named group by name
      on conflict (name) do update set value = integrity_count.value + excluded.value
    )
    select count(*) as deleted from deleted`.execute(db);
  return Number(result.rows[0]?.deleted);
}

export interface IntegrityFigures {
  readonly nars: number;
  /** Of files. */
  readonly bytes: number;
  /** Out of service. */
  readonly damaged: number;
  /** Of the sound NAR that was not verified for longest; null when there is none. */
  readonly oldest_verified_at: Date | null;
  readonly oldest_unpacked_at: Date | null;
  readonly rows_checked_at: Date | null;
}

export async function readIntegrityFigures(db: Kysely<Database>): Promise<IntegrityFigures> {
  const result = await sql<IntegrityFigures>`
    select count(*) as nars, coalesce(sum(file_size), 0)::float8 as bytes, count(damaged_at) as damaged,
      min(verified_at) filter (where damaged_at is null) as oldest_verified_at,
      min(unpacked_at) filter (where damaged_at is null) as oldest_unpacked_at,
      (select rows_finished_at from scrub_state) as rows_checked_at
    from nar`.execute(db);
  return result.rows[0] as IntegrityFigures;
}

/** What was counted since the beginning, by `IntegrityCount`; a name that is not there is zero. */
export async function readIntegrityCounts(db: Kysely<Database>): Promise<Record<string, number>> {
  const result = await sql<{ name: string; value: number }>`
    select name, sum(value)::float8 as value from (
      select name, value from integrity_count
      union all
      select name, count(*) from (${countNames(sql`nar_damage`)}) named group by name
    ) every group by name order by name`.execute(db);
  return Object.fromEntries(result.rows.map(({ name, value }) => [name, value]));
}

/** One name for each time that an object was found damaged, and for each that it was repaired. */
function countNames(damages: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`
    select 'damaged_' || fault as name from ${damages}
    union all
    select 'repaired_' || healed_by from ${damages} where healed_by is not null`;
}
