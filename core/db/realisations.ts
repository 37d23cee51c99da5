import { type Kysely, sql, type Transaction } from "kysely";
import type { RealisationKey } from "../nix/realisation.ts";
import { type SigningCache, withKeys } from "./cache-keys.ts";
import type { Database } from "./schema.ts";

/** A realisation of one cache, whose path the cache offers. */
export interface StoredRealisation extends RealisationKey {
  readonly cache_id: string;
  /** Base name. */
  readonly store_path: string;
  /** Base names. */
  readonly references: readonly string[];
  /** `sha256:<hex>!<output>`. */
  readonly dependents: readonly string[];
  readonly signatures: readonly string[];
}

/** What these caches say of these outputs, where they offer what they name. */
export async function listRealisations(
  db: Kysely<Database>,
  { cacheIds, keys }: { readonly cacheIds: readonly string[]; readonly keys: readonly RealisationKey[] },
): Promise<StoredRealisation[]> {
  if (cacheIds.length === 0 || keys.length === 0) return [];
  const result = await sql<StoredRealisation>`
    select r.cache_id, k.hash, r.output, p.store_path, p."references", r.dependents, r.signatures
    from jsonb_to_recordset(${JSON.stringify(keys)}::jsonb) as k(hash text, output text)
    join realisation r on r.cache_id = any(${cacheIds}::uuid[])
      and r.derivation_hash = decode(k.hash, 'hex') and r.output = k.output
    join cache_path p on p.cache_id = r.cache_id and p.hash = r.path_hash and p.incomplete_at is null
    join nar n on n.nar_hash = p.nar_hash and n.damaged_at is null`.execute(db);
  return result.rows;
}

export interface NewRealisation extends RealisationKey {
  /** Base name. */
  readonly store_path: string;
  readonly dependents: readonly string[];
  readonly signatures: readonly string[];
}

/**
 * Records realisations in those of the caches that hold their paths. What a cache says of an output stays, unless it
 * can no longer offer what it named. Returns how many were recorded.
 */
export async function insertRealisations(
  trx: Transaction<Database>,
  cacheIds: readonly string[],
  realisations: readonly NewRealisation[],
): Promise<number> {
  if (cacheIds.length === 0 || realisations.length === 0) return 0;
  const { numAffectedRows } = await sql`
    insert into realisation (cache_id, derivation_hash, output, path_hash, dependents, signatures)
    select p.cache_id, decode(r.hash, 'hex'), r.output, p.hash, r.dependents, r.signatures
    from jsonb_to_recordset(${JSON.stringify(realisations)}::jsonb) as r(hash text, output text, store_path text,
      dependents text[], signatures text[])
    join cache_path p on p.cache_id = any(${cacheIds}::uuid[])
      and p.hash = left(r.store_path, 32) and p.store_path = r.store_path
    order by p.cache_id, r.hash, r.output
    on conflict (cache_id, derivation_hash, output) do update
      set path_hash = excluded.path_hash, dependents = excluded.dependents, signatures = excluded.signatures
      where not exists (
        select from cache_path held join nar n on n.nar_hash = held.nar_hash and n.damaged_at is null
        where held.cache_id = realisation.cache_id and held.hash = realisation.path_hash
          and held.incomplete_at is null)`.execute(trx);
  return Number(numAffectedRows ?? 0n);
}

/** Outputs that a build needs and whose places no derivation states: by the build that needs them. */
export interface NeededRealisation extends RealisationKey {
  readonly build_id: string;
  /** Base name. */
  readonly store_path: string;
}

export async function listNeededRealisations(
  db: Kysely<Database>,
  buildIds: readonly string[],
): Promise<NeededRealisation[]> {
  const result = await sql<NeededRealisation>`
    select e.build_id, encode(d.realisation_hash, 'hex') as hash, o.name as output, o.store_path
    from build_edge e
    join build d on d.id = e.dependency_id and d.realisation_hash is not null
    join build_output o on o.build_id = d.id and o.name = any(e.outputs) and o.store_path is not null
    where e.build_id = any(${buildIds}::uuid[])`.execute(db);
  return result.rows;
}

/** The cache with its sealed keys; undefined when it is gone. */
export async function findSigningCache(db: Kysely<Database>, id: string): Promise<SigningCache | undefined> {
  const row = await db.selectFrom("cache").select("id").where("id", "=", id).executeTakeFirst();
  return row && (await withKeys(db, [row]))[0];
}
