import { listPresentPaths } from "../db/cache-paths.ts";
import type { NewNar } from "../db/nars.ts";
import { deleteSentNars, listReachableNars, recordSentNar, type Sender } from "../db/sent-nars.ts";
import { inTransaction } from "../db/transaction.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { toHex } from "../lib/bytes.ts";
import { chunksOf } from "../lib/chunks.ts";
import { formatHash, type Hash } from "../nix/hash.ts";
import { type StorePath, storePathHash } from "../nix/store-path.ts";
import { requireCache } from "./access.ts";
import { announceCommit, type CommitDeps, type CommitResult, type CommittedPath, commitPaths } from "./cache-commit.ts";
import { storedPath } from "./cache-path.ts";
import { MissingReferenceError } from "./cache-promote.ts";
import type { UploadPlaces } from "./cache-upload-places.ts";
import type { Nar } from "./nar.ts";
import { refused } from "./nar-check.ts";
import type { NarReceiveDeps } from "./nar-receive.ts";
import { recordNars, settleRecorded } from "./nar-record.ts";
import type { Upstreams } from "./upstreams.ts";

export interface UploadDeps extends NarReceiveDeps, CommitDeps {
  readonly upstreams: Upstreams;
  readonly uploadPlaces: UploadPlaces;
  /** The largest NAR file that is taken (`GRADIENT_MAX_NAR_UPLOAD_SIZE`). */
  readonly narUploadBytesMax: number;
}

/** Somebody who may write to a cache. */
export type Pusher = Sender;

/** A path as its pusher describes it. */
export interface OfferedPath extends CommittedPath {
  readonly narSize: number;
}

/** What somebody sends: a NAR with its announced size, or one that nobody has described yet. */
export interface SentNar {
  readonly store: () => Promise<NewNar>;
  /** Of the file as it came; where it is not known, that of the stored file. */
  readonly fileHash?: Hash;
}

/** A file of the largest size may unpack to so many times its bytes: more is a trap, or all zeros. */
const UNPACKED_FACTOR_MAX = 64;
/** References that upstreams are asked for in one request: at 32 look-ups of 50 ms at a time this takes 8 seconds. */
const ASKED_REFERENCES_MAX = 5_000;
/** A statement's list. */
const CHUNK = 1_000;

/** Who may write to a cache, as `requireCache` has it. An inactive cache takes nothing. */
export async function requirePusher(deps: Pick<UploadDeps, "db">, actor: Actor, cacheName: string): Promise<Pusher> {
  const { cache } = await requireCache(deps, actor, cacheName, "writeStore");
  if (!cache.active) {
    throw new DomainError("conflict", "This cache is inactive: it takes nothing until it is activated");
  }
  return { cacheId: cache.id, userId: requireUser(actor).id };
}

/** What a NAR may unpack to when nobody has announced its size. */
export function unpackedBytesMax({ narUploadBytesMax }: Pick<UploadDeps, "narUploadBytesMax">): number {
  return Math.min(narUploadBytesMax * UNPACKED_FACTOR_MAX, Number.MAX_SAFE_INTEGER);
}

/**
 * Takes a NAR in. It is proven and durable then, and nobody can reach it but its sender, in this cache, until a path
 * names it; a day later it is forgotten. Throws what `store` throws.
 *
 * Where the process may die, and what is true then: before the commit, an object lies in staging or under a key of
 * its own, which no row names, and the sweep takes it; after it, the NAR is there for its sender, who sends it again or
 * not.
 */
export async function sendNar(deps: UploadDeps, pusher: Pusher, { store, fileHash }: SentNar): Promise<Nar> {
  const candidate = await deps.uploadPlaces.run(pusher.userId, store);
  const sent = { narHash: candidate.nar_hash, fileHash: fileHash?.digest ?? candidate.file_hash };
  const recorded = await inTransaction(
    deps.db,
    async (trx) => {
      const nars = await recordNars(trx, [candidate]);
      await recordSentNar(trx, pusher, sent);
      return nars;
    },
    deps,
  );
  await settleRecorded(deps, recorded);
  return recorded.nars.get(toHex(candidate.nar_hash)) as Nar;
}

/**
 * Offers paths, all of them or none. What the cache has already stays as it is. Throws `conflict` for a path whose NAR
 * does not exist for this pusher: whether it exists for others makes no difference. Throws `unprocessable_entity` for
 * references that neither the cache nor an upstream has.
 */
export async function offerPaths(
  deps: UploadDeps,
  pusher: Pusher,
  paths: readonly OfferedPath[],
): Promise<readonly StorePath[]> {
  const present = await presentPaths(deps, pusher, paths);
  const others = paths.filter((path) => !present.has(path.storePath));
  if (others.length === 0) return [];
  const result = await commit(deps, pusher, others).catch(async (error: unknown) => {
    if (!(error instanceof MissingReferenceError)) throw error;
    if (error.references.length > ASKED_REFERENCES_MAX) throw error;
    // Nobody may have asked for these yet.
    const { found } = await deps.upstreams.find([pusher.cacheId], error.references);
    if (found.size === 0) throw error;
    return await commit(deps, pusher, others);
  });
  announceCommit(deps.notifier, result);
  for (const { storePath } of result.differing) {
    deps.log.info("a pushed path is there with another NAR, which stays", { cacheId: pusher.cacheId, storePath });
  }
  return result.added.map((path) => path.storePath);
}

/** Which of the paths the cache offers. Throws `conflict` where another path has the hash of one of these. */
export async function presentPaths(
  { db }: Pick<UploadDeps, "db">,
  { cacheId }: Pick<Pusher, "cacheId">,
  paths: readonly { readonly storePath: StorePath }[],
): Promise<ReadonlySet<StorePath>> {
  const byHash = new Map(paths.map(({ storePath }) => [storePathHash(storePath), storePath]));
  const present = new Set<StorePath>();
  for (const hashes of chunksOf([...byHash.keys()], CHUNK)) {
    for (const row of await listPresentPaths(db, { cacheIds: [cacheId], hashes })) {
      const path = storedPath(row.store_path);
      const asked = byHash.get(storePathHash(path)) as StorePath;
      if (asked !== path) throw new DomainError("conflict", `${asked} has the hash of ${path}, which is in the cache`);
      present.add(path);
    }
  }
  return present;
}

async function commit(deps: UploadDeps, pusher: Pusher, paths: readonly OfferedPath[]): Promise<CommitResult> {
  return await inTransaction(
    deps.db,
    async (trx) => {
      for (const chunk of chunksOf(paths, CHUNK)) await requireReachable({ db: trx }, pusher, chunk);
      const result = await commitPaths(trx, deps, { cacheIds: [pusher.cacheId], organizationId: null, paths });
      for (const chunk of chunksOf(paths, CHUNK)) {
        const hashes = chunk.map((path) => path.narHash.digest);
        await deleteSentNars(trx, pusher, hashes);
      }
      return result;
    },
    deps,
  );
}

async function requireReachable(
  { db }: Pick<UploadDeps, "db">,
  pusher: Pusher,
  paths: readonly OfferedPath[],
): Promise<void> {
  const hashes = paths.map((path) => path.narHash.digest);
  const rows = await listReachableNars(db, pusher, hashes);
  const sizes = new Map(rows.map((row) => [toHex(row.nar_hash), row.nar_size]));
  for (const { storePath, narHash, narSize } of paths) {
    const size = sizes.get(toHex(narHash.digest));
    if (size === undefined) throw notSent(storePath, narHash);
    if (size !== narSize)
      throw refused(`the NAR of ${storePath} has ${size} bytes, not the ${narSize} that are stated`);
  }
}

function notSent(storePath: StorePath, narHash: Hash): DomainError {
  const hash = formatHash(narHash, "nix32");
  return new DomainError("conflict", `the NAR ${hash} of ${storePath} has not come to this cache: send it first`);
}
