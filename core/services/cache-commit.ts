import type { Transaction } from "kysely";
import type { SigningCache } from "../db/cache-keys.ts";
import { listReadableStores, lockCachesForSigning } from "../db/cache-paths.ts";
import type { Database } from "../db/schema.ts";
import { DomainError } from "../errors.ts";
import { toHex } from "../lib/bytes.ts";
import type { Hash } from "../nix/hash.ts";
import { isSignatureText } from "../nix/narinfo.ts";
import type { StorePath } from "../nix/store-path.ts";
import type { Notifier } from "../ports/notifier.ts";
import { refuseBlocked } from "./cache-blocks.ts";
import { type Candidate, lockNars, promotedReferences } from "./cache-promote.ts";
import type { SecretKeyOf } from "./cache-sign.ts";
import { writePaths } from "./cache-write.ts";

export interface CommitDeps {
  readonly secretKeyOf: SecretKeyOf;
}

export interface CommittedPath {
  readonly storePath: StorePath;
  /** Of a NAR that `receiveNar` stored. */
  readonly narHash: Hash;
  readonly references: readonly StorePath[];
  readonly deriver: StorePath | null;
  readonly ca: string | null;
  /** Others' signatures (`name:base64`), kept beside the cache's own. */
  readonly signatures?: readonly string[];
}

export interface PathCommit {
  readonly cacheIds: readonly string[];
  /** Whose readable stores lend references that a cache does not hold yet. Null: nobody's. */
  readonly organizationId: string | null;
  /** Whole closures may come in any order. */
  readonly paths: readonly CommittedPath[];
}

export interface CachedPath {
  readonly cacheId: string;
  readonly storePath: StorePath;
}

export interface CommitResult {
  /** Offered from now on, and not offered before (not at all, or only with a damaged NAR). */
  readonly added: readonly CachedPath[];
  /** References that came along from another store. */
  readonly promoted: readonly CachedPath[];
  /** Present already with another NAR, which stays: first come, first kept. `narHash` is the one that is served. */
  readonly differing: readonly (CachedPath & { readonly narHash: Hash })[];
  /** Subjects of the topic `path`, for `announceCommit`. */
  readonly changed: readonly string[];
}

const SIGNATURES_MAX = 32;
const ONE_LINE = /^[!-~]{1,1000}$/;

/**
 * Offers paths in caches: one signed row a cache, once the NAR is stored and every reference is in that cache, among
 * `paths`, lent by a store that the organization reads (then it comes along, with its closure and this cache's
 * signature), or was recorded in an upstream of the cache. Throws `DomainError` and changes nothing when a NAR is not
 * stored (`conflict`), a reference is nowhere (`MissingReferenceError`) or a cache is gone (`not_found`).
 *
 * Runs at READ COMMITTED. What it relies on (NARs, references, caches) is locked, so none of it goes before the commit;
 * a sweep must lock its victims first and look for referrers in a later statement.
 */
export async function commitPaths(
  trx: Transaction<Database>,
  { secretKeyOf }: CommitDeps,
  { cacheIds, organizationId, paths }: PathCommit,
): Promise<CommitResult> {
  const caches = await lockCachesForSigning(trx, cacheIds);
  if (caches.length !== new Set(cacheIds).size) throw new DomainError("not_found", "Cache not found");
  requireCommittable(paths);
  const nars = await lockNars(trx, paths);
  const lenders = organizationId === null ? [] : await listReadableStores(trx, organizationId);
  const candidates = paths.map((path) => ({
    ...path,
    narSize: nars.get(toHex(path.narHash.digest))?.nar_size as number,
    signatures: path.signatures ?? [],
  }));
  return await commitCandidates(trx, { secretKeyOf }, { caches, lenders, candidates });
}

export interface CandidateCommit {
  /** Locked, and to be written to. */
  readonly caches: readonly SigningCache[];
  /** The stores that lend references, the preferred first. */
  readonly lenders: readonly { readonly id: string; readonly kind: number }[];
  /** Their form was looked at (`requireCommittable`), and their NARs are locked. */
  readonly candidates: readonly Candidate[];
}

/** `commitPaths` for whoever has locked already what it relies on. */
export async function commitCandidates(
  trx: Transaction<Database>,
  { secretKeyOf }: CommitDeps,
  { caches, lenders, candidates: committed }: CandidateCommit,
): Promise<CommitResult> {
  const result = { added: [], promoted: [], differing: [], changed: [] } as MutableResult;
  const cacheIds = caches.map(({ id }) => id);
  await refuseBlocked(trx, cacheIds, pathsOf(committed));
  for (const cache of caches) {
    const others = lenders.map((store) => store.id).filter((id) => id !== cache.id);
    // Nobody but the organization's workers reads its internal store, and they reach all of these upstreams.
    const isInternal = lenders.some((store) => store.id === cache.id && store.kind === 1);
    const upstreamsOf = isInternal ? others : [cache.id];
    const promoted = await promotedReferences(trx, { cacheId: cache.id, lenders: others, upstreamsOf, committed });
    await refuseBlocked(trx, [cache.id], pathsOf(promoted));
    const keys = await Promise.all(cache.keys.map(secretKeyOf));
    const signer = { cacheId: cache.id, keys, keyNames: cache.keyNames };
    const written = await writePaths(trx, signer, [...promoted, ...committed]);
    const isPromoted = new Set(promoted.map((path) => path.storePath));
    for (const path of written.added) (isPromoted.has(path.storePath) ? result.promoted : result.added).push(path);
    result.differing.push(...written.differing.filter((path) => !isPromoted.has(path.storePath)));
    result.changed.push(...written.changed);
  }
  return result;
}

function pathsOf(candidates: readonly Candidate[]): StorePath[] {
  return candidates.map(({ storePath }) => storePath);
}

/** To be called after the commit: no server goes on answering with what a path was before. */
export function announceCommit(notifier: Notifier, { changed }: CommitResult): void {
  for (const subject of changed) notifier.notify("path", subject);
}

type MutableResult = { -readonly [Name in keyof CommitResult]: CommitResult[Name][number][] };

/** Throws for paths that no narinfo can state, and for one that is named twice. */
export function requireCommittable(paths: readonly CommittedPath[]): void {
  const named = new Set<StorePath>();
  for (const path of paths) {
    requirePrintable(path);
    if (named.has(path.storePath)) throw new DomainError("validation", `${path.storePath} is named twice`);
    named.add(path.storePath);
  }
}

/** What goes into a narinfo as it came must not be able to end its line. */
function requirePrintable({ storePath, ca, signatures = [] }: CommittedPath): void {
  if (ca !== null && !ONE_LINE.test(ca)) throw new DomainError("validation", `the CA of ${storePath} is not valid`);
  if (signatures.length > SIGNATURES_MAX) {
    throw new DomainError("validation", `${storePath} has more than ${SIGNATURES_MAX} signatures`);
  }
  for (const signature of signatures) {
    if (ONE_LINE.test(signature) && isSignatureText(signature)) continue;
    throw new DomainError("validation", `a signature of ${storePath} is not of the form name:base64`);
  }
}
