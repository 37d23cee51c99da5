import { type Kysely, sql } from "kysely";
import type { Database, NarRow } from "./schema.ts";

export interface ListingRow {
  /** Of the JSON. */
  readonly text_bytes: number;
  /** Null: the listing is larger than what is kept. */
  readonly gzip_bytes: number | null;
  /** The first `headBytes` of the compressed listing. */
  readonly head: Uint8Array | null;
}

export async function findNarListing(
  db: Kysely<Database>,
  narHash: Uint8Array,
  headBytes: number,
): Promise<ListingRow | undefined> {
  return await db
    .selectFrom("nar_listing")
    .select([
      "text_bytes",
      sql<number | null>`octet_length(data)`.as("gzip_bytes"),
      sql<Uint8Array | null>`substring(data from 1 for ${headBytes}::integer)`.as("head"),
    ])
    .where("nar_hash", "=", narHash)
    .executeTakeFirst();
}

/** A part of the compressed listing; undefined when the listing is gone. */
export async function readNarListingPart(
  db: Kysely<Database>,
  narHash: Uint8Array,
  { start, length }: { readonly start: number; readonly length: number },
): Promise<Uint8Array | undefined> {
  const row = await db
    .selectFrom("nar_listing")
    .select(sql<Uint8Array>`substring(data from ${start + 1}::integer for ${length}::integer)`.as("part"))
    .where("nar_hash", "=", narHash)
    .where("data", "is not", null)
    .executeTakeFirst();
  return row?.part;
}

export interface NewNarListing {
  readonly narHash: Uint8Array;
  readonly data: Uint8Array | null;
  readonly textBytes: number;
  /** Each of 20 bytes, once. */
  readonly buildIds: readonly Uint8Array[];
}

/** The listing of a NAR never changes: who comes second changes nothing, and where the NAR is gone nothing is kept. */
export async function insertNarListing(db: Kysely<Database>, listing: NewNarListing): Promise<void> {
  const { narHash, data, textBytes, buildIds } = listing;
  await sql`
    with listed_nar as (
      select nar_hash from nar where nar_hash = ${narHash} for key share
    ), listed as (
      insert into nar_listing (nar_hash, data, text_bytes)
      select nar_hash, ${data}::bytea, ${textBytes}::bigint from listed_nar
      on conflict (nar_hash) do nothing
      returning nar_hash
    )
    insert into nar_debug_file (build_id, nar_hash)
    select given.build_id, listed.nar_hash from listed, unnest(${buildIds}::bytea[]) as given (build_id)
    on conflict do nothing`.execute(db);
}

/** The sound NAR of this cache that has the debug information of a build id; of several always the same. */
export async function findDebugNar(
  db: Kysely<Database>,
  { cacheId, buildId }: { readonly cacheId: string; readonly buildId: Uint8Array },
): Promise<Pick<NarRow, "nar_hash" | "file_hash"> | undefined> {
  return await db
    .selectFrom("nar_debug_file")
    .innerJoin("nar", "nar.nar_hash", "nar_debug_file.nar_hash")
    .select(["nar.nar_hash", "nar.file_hash"])
    .where("nar_debug_file.build_id", "=", buildId)
    .where("nar.damaged_at", "is", null)
    .where((where) =>
      where.exists(
        where
          .selectFrom("cache_path")
          .select("cache_path.hash")
          .whereRef("cache_path.nar_hash", "=", "nar.nar_hash")
          .where("cache_path.cache_id", "=", cacheId),
      ),
    )
    .orderBy("nar.nar_hash")
    .limit(1)
    .executeTakeFirst();
}

/** Sound NARs without a listing whose paths are named like debug information, by their hashes behind `after`. */
export async function listUnlistedDebugNars(
  db: Kysely<Database>,
  { after, limit }: { readonly after: Uint8Array; readonly limit: number },
): Promise<NarRow[]> {
  return await db
    .selectFrom("nar")
    .selectAll()
    .where("nar.nar_hash", ">", after)
    .where("nar.damaged_at", "is", null)
    .where((where) =>
      where.exists(
        where
          .selectFrom("cache_path")
          .select("cache_path.hash")
          .whereRef("cache_path.nar_hash", "=", "nar.nar_hash")
          // As the index says it, to the letter.
          .where(sql<boolean>`cache_path.store_path like '%-debug'`),
      ),
    )
    .where((where) =>
      where.not(
        where.exists(
          where
            .selectFrom("nar_listing")
            .select("nar_listing.nar_hash")
            .whereRef("nar_listing.nar_hash", "=", "nar.nar_hash"),
        ),
      ),
    )
    .orderBy("nar.nar_hash")
    .limit(limit)
    .execute();
}
