import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import type { IntegrityCount, NarFault, NarHealer } from "../domain/nar-health.ts";
import type { Database, NarRow } from "./schema.ts";

/** One object of a NAR: what was read, or found out, speaks of that and of nothing that has replaced it. */
export interface NarObject {
  readonly narHash: Uint8Array;
  readonly objectKey: string;
}

/**
 * Takes one object out of service, and records why. False when that object is not the NAR's any more or was marked
 * before: a reader that is slow to notice cannot hit what has replaced it.
 */
export async function markNarDamaged(
  db: Kysely<Database>,
  { narHash, objectKey }: NarObject,
  { fault, message }: { readonly fault: NarFault; readonly message: string },
): Promise<boolean> {
  const result = await sql<{ nar_hash: Uint8Array }>`
    with marked as (
      update nar set damaged_at = gradient_now()
      where nar_hash = ${narHash} and object_key = ${objectKey} and damaged_at is null
      returning nar_hash, object_key
    ), recorded as (
      insert into nar_damage (object_key, nar_hash, fault, message)
      select object_key, nar_hash, ${fault}, ${message} from marked
      on conflict (object_key) where healed_at is null do nothing
    )
    select nar_hash from marked`.execute(db);
  return result.rows.length > 0;
}

/** The whole file was read and is right; with `unpacked` the NAR in it as well. Damage that was marked stays marked. */
export async function recordNarVerified(
  db: Kysely<Database>,
  { narHash, objectKey, unpacked }: NarObject & { readonly unpacked: boolean },
): Promise<void> {
  await sql`
    with verified as (
      update nar set verified_at = gradient_now(),
        unpacked_at = case when ${unpacked} then gradient_now() else unpacked_at end
      where nar_hash = ${narHash} and object_key = ${objectKey} and damaged_at is null
      returning file_size
    ), ${counted("verified", sql`(select count(*) from verified)`)},
    ${counted("verified_bytes", sql`(select coalesce(sum(file_size), 0) from verified)`, "counted_bytes")}
    select`.execute(db);
}

/** Whole files that were read for somebody and were right. Those that were verified less than a day ago are left. */
export async function touchVerified(db: Kysely<Database>, objectKeys: readonly string[]): Promise<void> {
  await sql`
    update nar set verified_at = gradient_now()
    from (
      select nar_hash from nar
      where object_key = any(${objectKeys}::text[]) and damaged_at is null
        and verified_at < gradient_now() - interval '1 day'
      order by nar_hash for update
    ) proven
    where nar.nar_hash = proven.nar_hash`.execute(db);
}

export type VerifiableNar = NarRow & {
  /** The NAR's own hash is due as well. */
  readonly unpack_due: boolean;
};

/** Sound NARs that were not verified for `intervalMs`, those first that wait longest. */
export async function listNarsToVerify(
  db: Kysely<Database>,
  { intervalMs, unpackIntervalMs, limit }: ScrubAge & { readonly limit: number },
): Promise<VerifiableNar[]> {
  return await db
    .selectFrom("nar")
    .selectAll()
    .select(sql<boolean>`unpacked_at < ${ago(unpackIntervalMs)}`.as("unpack_due"))
    .where("damaged_at", "is", null)
    .where("verified_at", "<", ago(intervalMs))
    .orderBy("verified_at")
    .limit(limit)
    .execute();
}

export interface ScrubAge {
  readonly intervalMs: number;
  readonly unpackIntervalMs: number;
}

/** In how many milliseconds the next one is due; null when there is no NAR at all. Negative for one that is late. */
export async function nextVerificationMs(db: Kysely<Database>, intervalMs: number): Promise<number | null> {
  const row = await db
    .selectFrom("nar")
    .select(sql<number>`(extract(epoch from verified_at - ${ago(intervalMs)}) * 1000)::float8`.as("ms"))
    .where("damaged_at", "is", null)
    .orderBy("verified_at")
    .limit(1)
    .executeTakeFirst();
  return row?.ms ?? null;
}

/** The sound NARs that were verified last, beside this one: whether the store answers at all is tried with them. */
export async function listLastVerified(db: Kysely<Database>, exceptHash: Uint8Array, limit: number): Promise<NarRow[]> {
  return await db
    .selectFrom("nar")
    .selectAll()
    .where("damaged_at", "is", null)
    .where("nar_hash", "<>", exceptHash)
    .orderBy("verified_at", "desc")
    .limit(limit)
    .execute();
}

/** NARs in the order of their hashes, after one of them; with `cacheId` those that a path of the cache names. */
export async function listNarsAfter(
  db: Kysely<Database>,
  {
    after,
    cacheId,
    damaged,
    limit,
  }: {
    readonly after: Uint8Array | null;
    readonly cacheId: string | null;
    readonly damaged: boolean;
    readonly limit: number;
  },
): Promise<NarRow[]> {
  return await db
    .selectFrom("nar")
    .selectAll()
    .where("damaged_at", damaged ? "is not" : "is", null)
    .$if(after !== null, (query) => query.where("nar_hash", ">", after as Uint8Array))
    .$if(cacheId !== null, (query) =>
      query.where(({ exists, selectFrom }) =>
        exists(
          selectFrom("cache_path")
            .select("cache_path.hash")
            .whereRef("cache_path.nar_hash", "=", "nar.nar_hash")
            .where("cache_path.cache_id", "=", cacheId as string),
        ),
      ),
    )
    .orderBy("nar_hash")
    .limit(limit)
    .execute();
}

export async function countNars(
  db: Kysely<Database>,
  { cacheId, damaged }: { readonly cacheId: string | null; readonly damaged: boolean },
): Promise<number> {
  const result = await sql<{ count: number }>`
    select count(*) as count from nar n
    where (n.damaged_at is not null) = ${damaged} and (${cacheId}::uuid is null
      or exists (select from cache_path p where p.nar_hash = n.nar_hash and p.cache_id = ${cacheId}))`.execute(db);
  return Number(result.rows[0]?.count);
}

/** The object that was marked has been read whole and is right again. False when it is not the NAR's any more. */
export async function restoreNar(db: Kysely<Database>, { narHash, objectKey }: NarObject): Promise<boolean> {
  const result = await sql<{ nar_hash: Uint8Array }>`
    with restored as (
      update nar set damaged_at = null, verified_at = gradient_now(), unpacked_at = gradient_now()
      where nar_hash = ${narHash} and object_key = ${objectKey} and damaged_at is not null
      returning nar_hash, object_key
    ), healed as (${closeDamage(sql`(select object_key from restored)`, "storage")})
    select nar_hash from restored`.execute(db);
  return result.rows.length > 0;
}

/** The NAR's damaged object is about to be replaced. The caller holds the row (`lockNarsForUpdate`). */
export async function recordNarHealed(trx: Transaction<Database>, narHash: Uint8Array, by: NarHealer): Promise<void> {
  await closeDamage(sql`(select object_key from nar where nar_hash = ${narHash})`, by).execute(trx);
}

function closeDamage(objectKey: RawBuilder<unknown>, by: NarHealer): RawBuilder<unknown> {
  return sql`
    update nar_damage set healed_at = gradient_now(), healed_by = ${by}, problem = null
    where object_key in ${objectKey} and healed_at is null`;
}

/** A part of a `with`. */
function counted(name: IntegrityCount, value: RawBuilder<unknown>, as = "counted"): RawBuilder<unknown> {
  return sql`${sql.ref(as)} as (
    insert into integrity_count (name, value) select ${name}, n from (select ${value}::bigint as n) given where n > 0
    on conflict (name) do update set value = integrity_count.value + excluded.value
  )`;
}

function ago(milliseconds: number): RawBuilder<Date> {
  return sql<Date>`(gradient_now() - ${milliseconds} * interval '1 millisecond')`;
}
