import type { Transaction } from "kysely";
import {
  insertCachePaths,
  lockPathsForUpdate,
  type NewCachePath,
  type PresentPath,
  replaceCachePath,
  setPathSignatures,
} from "../db/cache-paths.ts";
import type { Database } from "../db/schema.ts";
import { assert } from "../lib/assert.ts";
import { equalBytes } from "../lib/bytes.ts";
import { chunksOf } from "../lib/chunks.ts";
import type { Hash } from "../nix/hash.ts";
import type { SecretKey } from "../nix/signature.ts";
import { type StorePath, storePathBaseName, storePathHash } from "../nix/store-path.ts";
import { storedPath } from "./cache-path.ts";
import type { Candidate } from "./cache-promote.ts";
import { isNamed, signWith, withoutNames } from "./cache-sign.ts";
import { sha256Of } from "./nar.ts";

interface WrittenPath {
  readonly cacheId: string;
  readonly storePath: StorePath;
}

interface Written {
  readonly added: WrittenPath[];
  readonly differing: (WrittenPath & { readonly narHash: Hash })[];
  readonly changed: string[];
}

/** A cache and what it signs with. */
interface Signer {
  readonly cacheId: string;
  readonly keys: readonly SecretKey[];
  /** As in `KeyRing`. */
  readonly keyNames: readonly string[];
}

interface Target extends Signer {
  readonly written: Written;
}

/** Eight parameters a row; PostgreSQL takes 65 535 a statement. */
/** Of one path, however often it is pushed: narinfos of ours are read with 64 at most, and keys of ours may come. */
const SIGNATURES_MAX = 48;
const CHUNK = 500;
/** Rounds of insert and lock: each one lost means that a row came and went in between. */
const ROUNDS_MAX = 5;

/** Writes rows in the order of their hashes, so that two commits never wait for each other in a ring. */
export async function writePaths(
  trx: Transaction<Database>,
  signer: Signer,
  candidates: readonly Candidate[],
): Promise<Written> {
  const target: Target = { ...signer, written: { added: [], differing: [], changed: [] } };
  const ordered = [...candidates].sort((a, b) => (a.storePath < b.storePath ? -1 : 1));
  for (const chunk of chunksOf(ordered, CHUNK)) await writeChunk(trx, target, chunk);
  return target.written;
}

async function writeChunk(trx: Transaction<Database>, target: Target, chunk: readonly Candidate[]): Promise<void> {
  const open = new Map(chunk.map((path) => [storePathHash(path.storePath), path]));
  for (let round = 0; open.size > 0; round++) {
    assert(round < ROUNDS_MAX, "rows of a cache come and go faster than they can be written");
    const rows = await Promise.all([...open.values()].map((path) => rowOf(target, path)));
    for (const hash of await insertCachePaths(trx, rows)) {
      target.written.added.push(cached(target, (open.get(hash) as Candidate).storePath));
      open.delete(hash);
    }
    if (open.size === 0) return;
    const present = await lockPathsForUpdate(trx, { cacheId: target.cacheId, hashes: [...open.keys()] });
    for (const row of present) {
      await settle(trx, target, { row, path: open.get(row.hash) as Candidate });
      open.delete(row.hash);
    }
  }
}

interface Meeting {
  readonly row: PresentPath;
  readonly path: Candidate;
}

/** The row that was there first stays, unless it cannot be served any more. */
async function settle(trx: Transaction<Database>, target: Target, { row, path }: Meeting): Promise<void> {
  const { cacheId, written } = target;
  const differs =
    row.store_path !== storePathBaseName(path.storePath) || !equalBytes(row.nar_hash, path.narHash.digest);
  const offered = !row.damaged && !row.incomplete;
  if (differs && offered) {
    written.differing.push({ ...cached(target, path.storePath), narHash: sha256Of(row.nar_hash) });
    return;
  }
  const subject = `${cacheId}/${row.hash}`;
  if (differs || row.incomplete) {
    await replaceCachePath(trx, await rowOf(target, path));
    written.added.push(cached(target, path.storePath));
    written.changed.push(subject);
    return;
  }
  const signatures = await completedSignatures(target, { row, path });
  if (signatures.length === row.signatures.length) return;
  await setPathSignatures(trx, { cacheId, hash: row.hash, signatures });
  written.changed.push(subject);
}

/** Signatures cover the references: what is added to a row must speak of the row's own. */
async function completedSignatures(target: Target, { row, path }: Meeting): Promise<string[]> {
  const references = row.references.map(storedPath);
  const signatures = new Set(row.signatures);
  const lacking = target.keys.filter(({ name }) => !row.signatures.some((text) => isNamed(text, name)));
  for (const signature of await signWith(lacking, { ...path, references })) signatures.add(signature);
  const sameReferences = baseNames(path.references).join(" ") === row.references.join(" ");
  for (const signature of sameReferences ? ofOthers(target, path.signatures) : []) {
    if (signatures.size < SIGNATURES_MAX) signatures.add(signature);
  }
  return [...signatures];
}

async function rowOf(target: Target, path: Candidate): Promise<NewCachePath> {
  const own = await signWith(target.keys, path);
  return {
    cache_id: target.cacheId,
    hash: storePathHash(path.storePath),
    store_path: storePathBaseName(path.storePath),
    nar_hash: path.narHash.digest,
    references: baseNames(path.references),
    deriver: path.deriver && storePathBaseName(path.deriver),
    ca: path.ca,
    signatures: [...new Set([...own, ...ofOthers(target, path.signatures)])],
  };
}

/** What comes under a name of the cache's own is its own word, which it may have taken back, or a forgery. */
function ofOthers({ keys, keyNames }: Target, signatures: readonly string[]): readonly string[] {
  return withoutNames(signatures, [...keys.map(({ name }) => name), ...keyNames]);
}

function baseNames(paths: readonly StorePath[]): string[] {
  return [...new Set(paths)].map(storePathBaseName).sort();
}

function cached({ cacheId }: Target, storePath: StorePath): WrittenPath {
  return { cacheId, storePath };
}
