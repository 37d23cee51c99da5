import type { Kysely, Transaction } from "kysely";
import { listPathsWithNar, lockPresentPaths, type PathWithNar } from "../db/cache-paths.ts";
import { lockSoundNars } from "../db/nars.ts";
import type { Database, NarRow } from "../db/schema.ts";
import { DomainError } from "../errors.ts";
import { toHex } from "../lib/bytes.ts";
import { chunksOf } from "../lib/chunks.ts";
import { formatHash, type Hash } from "../nix/hash.ts";
import { type StorePath, storePathHash } from "../nix/store-path.ts";
import { storedPath } from "./cache-path.ts";
import { sha256Of } from "./nar.ts";
import { upstreamPathsOf } from "./paths-availability.ts";

/** A path as it is to stand in a cache, before it is signed. Its NAR is locked and sound. */
export interface Candidate {
  readonly storePath: StorePath;
  readonly narHash: Hash;
  readonly narSize: number;
  readonly references: readonly StorePath[];
  readonly deriver: StorePath | null;
  readonly ca: string | null;
  readonly signatures: readonly string[];
}

/** References that neither the cache nor a lender nor an upstream is known to have. */
export class MissingReferenceError extends DomainError {
  readonly references: readonly StorePath[];

  constructor(referrer: StorePath, references: readonly StorePath[]) {
    const where = "which neither this cache nor an upstream of it holds";
    super("unprocessable_entity", `${referrer} refers to ${references[0]}, ${where}: upload that first`);
    this.references = references;
  }
}

/** A statement's list; a hundred of them make the largest closure. */
const CHUNK = 1_000;
/** The largest system closures of nixpkgs have some ten thousand paths. */
const CLOSURE_PATHS_MAX = 100_000;

/**
 * What else has to come into the cache so that every reference of `committed` is there: paths that the lending stores
 * hold, with their closures. What the cache holds already is locked until the transaction ends; what an upstream of
 * `upstreamsOf` was recorded to have stays there. Throws `MissingReferenceError` naming what nobody has.
 */
export async function promotedReferences(
  trx: Transaction<Database>,
  {
    cacheId,
    lenders,
    upstreamsOf,
    committed,
  }: {
    readonly cacheId: string;
    readonly lenders: readonly string[];
    /** Caches whose upstreams count: for most only the cache itself. */
    readonly upstreamsOf: readonly string[];
    readonly committed: readonly Candidate[];
  },
): Promise<Candidate[]> {
  const settled = new Set<StorePath>(committed.map((path) => path.storePath));
  const promoted: Candidate[] = [];
  let fresh: readonly Candidate[] = committed;
  for (;;) {
    const referrers = unsettledReferences(fresh, settled);
    for (const path of await presentIn(trx, cacheId, [...referrers.keys()])) referrers.delete(path);
    if (referrers.size === 0) break;
    fresh = await lent(trx, { lenders, upstreamsOf }, referrers);
    promoted.push(...fresh);
    if (promoted.length > CLOSURE_PATHS_MAX) {
      throw new DomainError("payload_too_large", `the closure of references has more than ${CLOSURE_PATHS_MAX} paths`);
    }
  }
  await lockNars(trx, promoted);
  return promoted;
}

/**
 * The rows of these NARs by the hexadecimal digits of their hashes; none of them is damaged or goes before the
 * transaction ends. Throws `DomainError` for one that is not stored.
 */
export async function lockNars(
  trx: Transaction<Database>,
  paths: readonly { readonly storePath: StorePath; readonly narHash: Hash }[],
): Promise<Map<string, NarRow>> {
  const digests = new Map(paths.map((path) => [toHex(path.narHash.digest), path.narHash.digest]));
  const rows = new Map<string, NarRow>();
  const ordered = [...digests].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, digest]) => digest);
  for (const chunk of chunksOf(ordered, CHUNK)) {
    for (const row of await lockSoundNars(trx, chunk)) rows.set(toHex(row.nar_hash), row);
  }
  const missing = paths.find((path) => !rows.has(toHex(path.narHash.digest)));
  if (missing) {
    const hash = formatHash(missing.narHash, "nix32");
    throw new DomainError("conflict", `the NAR ${hash} of ${missing.storePath} is not stored here: upload it first`);
  }
  return rows;
}

/** Marks them settled, so that each is looked at once; the values say who needs it. */
function unsettledReferences(paths: readonly Candidate[], settled: Set<StorePath>): Map<StorePath, StorePath> {
  const referrers = new Map<StorePath, StorePath>();
  for (const { storePath, references } of paths) {
    for (const reference of references) {
      if (settled.has(reference)) continue;
      settled.add(reference);
      referrers.set(reference, storePath);
    }
  }
  return referrers;
}

async function presentIn(
  trx: Transaction<Database>,
  cacheId: string,
  paths: readonly StorePath[],
): Promise<StorePath[]> {
  const present: StorePath[] = [];
  for (const chunk of chunksOf(paths, CHUNK)) {
    const rows = await lockPresentPaths(trx, { cacheId, hashes: chunk.map(storePathHash) });
    for (const row of rows) present.push(storedPath(row.store_path));
  }
  return present;
}

async function lent(
  db: Kysely<Database>,
  { lenders, upstreamsOf }: { readonly lenders: readonly string[]; readonly upstreamsOf: readonly string[] },
  referrers: ReadonlyMap<StorePath, StorePath>,
): Promise<Candidate[]> {
  const found = new Map<StorePath, { readonly rank: number; readonly row: PathWithNar }>();
  for (const chunk of lenders.length > 0 ? chunksOf([...referrers.keys()], CHUNK) : []) {
    for (const row of await listPathsWithNar(db, { cacheIds: lenders, hashes: chunk.map(storePathHash) })) {
      const path = storedPath(row.store_path);
      const rank = lenders.indexOf(row.cache_id);
      const best = found.get(path);
      if (!best || rank < best.rank) found.set(path, { rank, row });
    }
  }
  const missing = [...referrers.keys()].filter((path) => !found.has(path));
  const upstream = missing.length > 0 ? await upstreamPathsOf(db, upstreamsOf, missing, { locked: true }) : new Map();
  const absent = missing.filter((path) => !upstream.has(path));
  if (absent[0]) throw new MissingReferenceError(referrers.get(absent[0]) as StorePath, absent);
  return Array.from(found.values(), ({ row }) => candidateOf(row));
}

/** Signatures of the lending store are left behind: the cache signs with its own key. */
function candidateOf(row: PathWithNar): Candidate {
  return {
    storePath: storedPath(row.store_path),
    narHash: sha256Of(row.nar_hash),
    narSize: row.nar_size,
    references: row.references.map(storedPath),
    deriver: row.deriver === null ? null : storedPath(row.deriver),
    ca: row.ca,
    signatures: [],
  };
}
