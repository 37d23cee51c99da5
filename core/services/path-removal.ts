import type { Transaction } from "kysely";
import { insertBlock, lockCacheToBlock } from "../db/blocked-paths.ts";
import { deletePaths, listReferrers, lockPathsToRemove, type RemovablePath } from "../db/path-removals.ts";
import { deleteUnnamedNars } from "../db/retention-nars.ts";
import { forgetDiscarded } from "../db/retention-objects.ts";
import { readRootScope } from "../db/retention-roots.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import { requireCache } from "./access.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { requirePathHash } from "./path-hash.ts";

export interface PathRemovalDeps extends Pick<ServiceDeps, "db" | "clock" | "random" | "notifier" | "log"> {
  readonly blobs: BlobStore;
}

export interface PathRemoval {
  readonly cacheName: string;
  readonly path: string;
  /** Whether what refers to it, directly or not, goes too. */
  readonly referrers: boolean;
  /** Why the cache does not take it again; undefined: it does. */
  readonly block: string | undefined;
}

const REFERRERS_MAX = 10_000;
const SHOWN_MAX = 5;
/** Rounds of looking and locking: each one lost means that somebody has just committed another referrer. */
const ROUNDS_MAX = 5;

/**
 * Takes one path out of a cache at once, whatever keeps it but a pin, and its file out of the storage when no other
 * path is served from that. Builds that count on it are told (`loseSuspects`). Throws `not_found`, and `conflict` when
 * other paths refer to it and are not to go as well, or when it is pinned.
 */
export async function removePath(deps: PathRemovalDeps, actor: Actor, removal: PathRemoval): Promise<void> {
  const { db, notifier } = deps;
  const blocks = removal.block !== undefined;
  const { cache } = await requireCache(deps, actor, removal.cacheName, blocks ? "manageCacheSettings" : "writeStore");
  const hash = requirePathHash(removal.path, "path");
  const { id: userId } = requireUser(actor);
  const removed = await inTransaction(
    db,
    async (trx) => {
      // What is on its way in comes before this and is seen here, or is refused.
      if (blocks) await lockCacheToBlock(trx, cache.id);
      const paths = await lockClosure(trx, cache.id, hash, removal.referrers);
      if (removal.block !== undefined) {
        await insertBlock(trx, { cache_id: cache.id, hash, reason: removal.block, blocked_by: userId });
      }
      const hashes = paths.map((path) => path.hash);
      await deletePaths(trx, cache.id, hashes);
      const more = removal.block === undefined ? {} : { block: removal.block };
      const metadata = { cache: removal.cacheName, path: hash, paths: hashes.length, ...more };
      await recordAudit(trx, { ...auditAuthor(actor), event: "cache.nar.delete", cacheId: cache.id, metadata });
      const nars = [...new Set(paths.map(({ nar_hash }) => nar_hash))];
      return { hashes, objectKeys: (await deleteUnnamedNars(trx, nars, 0)).objectKeys };
    },
    deps,
  );
  for (const gone of removed.hashes) notifier.notify("path", `${cache.id}/${gone}`);
  await deleteNow(deps, removed.objectKeys);
}

/** The path and, where they are to go too, what refers to it. All are locked, and nothing else refers to them. */
async function lockClosure(
  trx: Transaction<Database>,
  cacheId: string,
  hash: string,
  withReferrers: boolean,
): Promise<readonly RemovablePath[]> {
  const scope = await readRootScope(trx, cacheId);
  const found = new Set([hash]);
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const paths = await lockPathsToRemove(trx, cacheId, [...found]);
    if (!paths.some((path) => path.hash === hash)) throw new DomainError("not_found", "The cache has no such path");
    const pinned = paths.find(({ pins }) => pins.length > 0);
    if (pinned) {
      const names = pinned.pins.slice(0, SHOWN_MAX).join(", ");
      throw new DomainError("conflict", `${pinned.store_path} is pinned as ${names}: remove that pin first`);
    }
    const before = found.size;
    await addReferrers(trx, scope, { found, paths, withReferrers });
    if (found.size === before) return paths;
  }
  throw new DomainError("conflict", "Paths that refer to it are being uploaded: try again in a moment");
}

async function addReferrers(
  trx: Transaction<Database>,
  scope: Awaited<ReturnType<typeof readRootScope>>,
  {
    found,
    paths,
    withReferrers,
  }: { readonly found: Set<string>; readonly paths: readonly RemovablePath[]; readonly withReferrers: boolean },
): Promise<void> {
  for (let names = paths.map(({ store_path }) => store_path); names.length > 0; ) {
    const above = await listReferrers(trx, scope, names, REFERRERS_MAX);
    // Caches that have this one as an upstream find out by themselves that they have lost something.
    const fresh = above.filter((path) => path.cache_id === scope.cacheId && !found.has(path.hash));
    if (fresh.length > 0 && !withReferrers) {
      const shown = fresh.slice(0, SHOWN_MAX).map(({ store_path }) => store_path);
      const more = fresh.length > shown.length ? " and others" : "";
      throw new DomainError(
        "conflict",
        `${shown.join(", ")}${more} refer to it: remove them first, or all together with \`referrers=true\``,
      );
    }
    for (const path of fresh) found.add(path.hash);
    if (found.size >= REFERRERS_MAX) {
      throw new DomainError("conflict", `More than ${REFERRERS_MAX} paths refer to it: remove those first`);
    }
    names = fresh.map(({ store_path }) => store_path);
  }
}

/** Whoever removes a path by hand does not want its bytes to lie about. What fails is deleted by the next tidying. */
async function deleteNow({ db, blobs, log }: PathRemovalDeps, objectKeys: readonly string[]): Promise<void> {
  try {
    for (const key of objectKeys) await blobs.delete(key);
    await forgetDiscarded(db, objectKeys);
  } catch (error) {
    log.warn("the file of a removed path is not deleted yet; it is tried again", { error });
  }
}
