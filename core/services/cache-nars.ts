import type { NarDetailsView, NarStatsView, NarsQuery, NarView } from "../api/caches-nars.ts";
import { type Page, pageWindow } from "../api/pages.ts";
import { naiveTime } from "../api/times.ts";
import { sumCacheUsage } from "../db/cache-history.ts";
import { type CacheNarRow, countCacheNars, findCacheNarTimes, listCacheNars } from "../db/cache-nars.ts";
import { findPathWithNar } from "../db/cache-paths.ts";
import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { formatHash } from "../nix/hash.ts";
import { storePathBaseName, storePathName } from "../nix/store-path.ts";
import { requireCache } from "./access.ts";
import { narInfoOf, storedPath } from "./cache-path.ts";
import type { ServiceDeps } from "./deps.ts";
import { sha256Of } from "./nar.ts";
import { requirePathHash } from "./path-hash.ts";
import { asWalk } from "./walks.ts";

type NarsDeps = Pick<ServiceDeps, "db">;

/** What a cache names, sound or not. */
export async function listNars(
  { db }: NarsDeps,
  actor: Actor,
  cacheName: string,
  { hash = "", package: name = "", sort, order, ...page }: NarsQuery,
): Promise<Page<NarView>> {
  const { cache } = await requireCache({ db }, actor, cacheName, "read");
  const filter = { cacheId: cache.id, prefix: hash, name: name.toLowerCase() };
  const list = () => listCacheNars(db, filter, { sort, order, ...pageWindow(page) });
  const isWhole = filter.prefix === "" && filter.name === "";
  // Paths are found by their hash and in the order they came; in another order, or by a name, all of them are read.
  const isFound = filter.name === "" && sort === "created_at";
  const rows = isFound ? await list() : await asWalk(actor, list);
  const count = () => countCacheNars(db, filter);
  const total = isWhole ? (await sumCacheUsage(db, cache.id)).paths : await (isFound ? count() : asWalk(actor, count));
  return { items: rows.map(viewNar), total, ...page };
}

/** One path that is served. */
export async function getNar(
  { db }: NarsDeps,
  actor: Actor,
  { cacheName, hash }: { readonly cacheName: string; readonly hash: string },
): Promise<NarDetailsView> {
  const { cache } = await requireCache({ db }, actor, cacheName, "read");
  const prefix = requirePathHash(hash, "hash");
  const row = await findPathWithNar(db, { cacheId: cache.id, hash: prefix });
  const filter = { cacheId: cache.id, prefix, name: "" };
  const [listed] = await listCacheNars(db, filter, { sort: "created_at", order: "asc", limit: 1, offset: 0 });
  if (!row || !listed) throw new DomainError("not_found", "Path not found");
  const { narHash, references, deriver, ca, signatures } = narInfoOf(row);
  return {
    ...viewNar(listed),
    file_hash: formatHash(sha256Of(row.file_hash), "nix32"),
    nar_hash: formatHash(narHash, "nix32"),
    references: references.map(storePathBaseName),
    deriver: deriver === null ? null : storePathBaseName(deriver),
    ca,
    fetch_count: listed.fetch_count,
    signed: signatures.length > 0,
  };
}

export async function isNarAvailable(
  { db }: NarsDeps,
  actor: Actor,
  { cacheName, hash }: { readonly cacheName: string; readonly hash: string },
): Promise<{ readonly available: boolean }> {
  const { cache } = await requireCache({ db }, actor, cacheName, "read");
  const row = await findPathWithNar(db, { cacheId: cache.id, hash: requirePathHash(hash, "hash") });
  return { available: row !== undefined };
}

export async function getNarStats({ db }: NarsDeps, actor: Actor, cacheName: string): Promise<NarStatsView> {
  const { cache } = await requireCache({ db }, actor, cacheName, "read");
  const { paths, bytes, nar_bytes: narBytes } = await sumCacheUsage(db, cache.id);
  // The longest time without a use is nowhere kept: an index would be written with each use.
  const times = await asWalk(actor, () => findCacheNarTimes(db, cache.id));
  return {
    total_nars: paths,
    total_nar_size: narBytes,
    total_file_size: bytes,
    last_uploaded_at: times.newest && naiveTime(times.newest),
    oldest_fetched_at: times.oldest_use && naiveTime(times.oldest_use),
  };
}

function viewNar(row: CacheNarRow): NarView {
  const path = storedPath(row.store_path);
  return {
    hash: row.hash,
    store_path: path,
    package: storePathName(path),
    nar_size: row.nar_size,
    file_size: row.file_size,
    created_at: naiveTime(row.created_at),
    last_fetched_at: naiveTime(row.last_used_at),
  };
}
