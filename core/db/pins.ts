import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";
import type { CachePinRevisionTable } from "./tables/retention.ts";

export interface PinRevision {
  readonly name: string;
  readonly keep_revisions: number;
  readonly revision: number;
  /** Base name. */
  readonly store_path: string;
  /** A name, while there is such a user. */
  readonly created_by: string | null;
  readonly created_at: Date;
}

/** By name, the newest revision first; of one pin, or of all the newest revision only. */
export async function listPins(
  db: Kysely<Database>,
  cacheId: string,
  { name, limit }: { readonly name: string | null; readonly limit: number },
): Promise<PinRevision[]> {
  const { rows } = await sql<PinRevision>`
    select p.name, p.keep_revisions, r.revision, r.store_path, u.username as created_by, r.created_at
    from cache_pin p
    join cache_pin_revision r on r.pin_id = p.id
    left join user_account u on u.id = r.created_by
    where p.cache_id = ${cacheId}
      and case when ${name === null} then r.revision = p.last_revision else p.name = ${name} end
    order by p.name, r.revision desc limit ${limit}`.execute(db);
  return rows;
}

export async function countPins(db: Kysely<Database>, cacheId: string): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::int as count from cache_pin where cache_id = ${cacheId}`.execute(db);
  return rows[0]?.count ?? 0;
}

/** Holds the path until the transaction ends. Its base name; undefined when the cache does not have it sound. */
export async function holdPathToPin(
  trx: Transaction<Database>,
  { cacheId, hash }: { readonly cacheId: string; readonly hash: string },
): Promise<string | undefined> {
  const { rows } = await sql<{ store_path: string }>`
    select p.store_path from cache_path p join nar n on n.nar_hash = p.nar_hash
    where p.cache_id = ${cacheId} and p.hash = ${hash} and n.damaged_at is null
    for key share of p`.execute(trx);
  return rows[0]?.store_path;
}

/** Makes the pin where there is none of this name, locks it, and answers the number of its next revision. */
export async function nextPinRevision(
  trx: Transaction<Database>,
  pin: { readonly id: string; readonly cacheId: string; readonly name: string; readonly keepRevisions: number | null },
): Promise<{ readonly id: string; readonly revision: number }> {
  const { rows } = await sql<{ id: string; revision: number }>`
    insert into cache_pin as p (id, cache_id, name, keep_revisions, last_revision)
    values (${pin.id}, ${pin.cacheId}, ${pin.name}, ${pin.keepRevisions ?? 1}, 1)
    on conflict (cache_id, name) do update set last_revision = p.last_revision + 1,
      keep_revisions = coalesce(${pin.keepRevisions}::integer, p.keep_revisions)
    returning id, last_revision as revision`.execute(trx);
  return rows[0] as { id: string; revision: number };
}

/** Adds a revision, and lets go of those beyond the ones that the pin keeps. */
export async function insertPinRevision(
  trx: Transaction<Database>,
  revision: Pick<CachePinRevisionTable, "pin_id" | "revision" | "cache_id" | "hash" | "store_path" | "created_by">,
): Promise<void> {
  await trx.insertInto("cache_pin_revision").values(revision).execute();
  await sql`
    delete from cache_pin_revision r using cache_pin p
    where p.id = r.pin_id and p.id = ${revision.pin_id} and r.revision <= p.last_revision - p.keep_revisions`.execute(
    trx,
  );
}

/** With all its revisions, or one that is not the newest. False when there is no such thing. */
export async function deletePin(
  db: Kysely<Database>,
  { cacheId, name, revision }: { readonly cacheId: string; readonly name: string; readonly revision: number | null },
): Promise<boolean> {
  const { numAffectedRows } =
    revision === null
      ? await sql`delete from cache_pin where cache_id = ${cacheId} and name = ${name}`.execute(db)
      : await sql`
          delete from cache_pin_revision r using cache_pin p
          where p.id = r.pin_id and p.cache_id = ${cacheId} and p.name = ${name} and r.revision = ${revision}
            and r.revision < p.last_revision`.execute(db);
  return (numAffectedRows ?? 0n) > 0n;
}
