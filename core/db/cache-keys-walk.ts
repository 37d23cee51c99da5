import { type Kysely, sql, type Transaction } from "kysely";
import { KeyState } from "./cache-keys.ts";
import type { CachePathRow, Database, NarRow } from "./schema.ts";
import type { CacheKeyRow } from "./tables/cache-key.ts";

/** Keys whose paths are not all walked, the ones that wait longest first. */
export async function listWalkingKeys(db: Kysely<Database>): Promise<string[]> {
  const rows = await db
    .selectFrom("cache_key")
    .select("id")
    .where("walked_to", "is not", null)
    .orderBy("created_at")
    .limit(100)
    .execute();
  return rows.map(({ id }) => id);
}

export type WalkingKey = Pick<CacheKeyRow, "id" | "cache_id" | "name" | "secret_key" | "state"> & {
  readonly walked_to: string;
};

/** Held until the transaction ends. Undefined when it is done, gone, or another server walks at this moment. */
export async function lockWalkingKey(trx: Transaction<Database>, id: string): Promise<WalkingKey | undefined> {
  return await trx
    .selectFrom("cache_key")
    .select(["id", "cache_id", "name", "secret_key", "state"])
    .select((eb) => eb.ref("walked_to").$notNull().as("walked_to"))
    .where("id", "=", id)
    .where("walked_to", "is not", null)
    .forUpdate()
    .skipLocked()
    .executeTakeFirst();
}

export type WalkedPath = Pick<CachePathRow, "hash" | "store_path" | "nar_hash" | "references" | "signatures"> &
  Pick<NarRow, "nar_size">;

/** The next paths of the key's cache, damaged ones too: they may come back. Held until the transaction ends. */
export async function lockNextPaths(
  trx: Transaction<Database>,
  { cache_id, walked_to }: WalkingKey,
  limit: number,
): Promise<WalkedPath[]> {
  return await trx
    .selectFrom("cache_path")
    .innerJoin("nar", "nar.nar_hash", "cache_path.nar_hash")
    .select(["cache_path.hash", "cache_path.store_path", "cache_path.nar_hash", "cache_path.references"])
    .select(["cache_path.signatures", "nar.nar_size"])
    .where("cache_path.cache_id", "=", cache_id)
    .where("cache_path.hash", ">", walked_to)
    .orderBy("cache_path.hash")
    .limit(limit)
    .forNoKeyUpdate("cache_path")
    .execute();
}

/** The caller holds the rows. */
export async function setSignatures(
  trx: Transaction<Database>,
  cacheId: string,
  paths: readonly { readonly hash: string; readonly signatures: readonly string[] }[],
): Promise<void> {
  if (paths.length === 0) return;
  await sql`
    update cache_path p set signatures = r.signatures
    from jsonb_to_recordset(${JSON.stringify(paths)}::jsonb) as r(hash text, signatures text[])
    where p.cache_id = ${cacheId} and p.hash = r.hash`.execute(trx);
}

export async function setWalkedTo(trx: Transaction<Database>, id: string, hash: string): Promise<void> {
  await trx.updateTable("cache_key").set({ walked_to: hash }).where("id", "=", id).execute();
}

/** The key's state holds for every path. The caller holds the key and has seen that no path is left. */
export async function endWalk(trx: Transaction<Database>, { id, state }: WalkingKey): Promise<void> {
  await trx
    .updateTable("cache_key")
    .set({ walked_to: null, state: state === KeyState.Retiring ? KeyState.Retired : state })
    .where("id", "=", id)
    .execute();
}
