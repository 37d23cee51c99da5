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
import { fingerprint, type SecretKey, sign } from "../nix/signature.ts";
import { type StorePath, storePathBaseName, storePathHash } from "../nix/store-path.ts";
import { storedPath } from "./cache-path.ts";
import type { Candidate } from "./cache-promote.ts";
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

interface Target {
  readonly cacheId: string;
  readonly key: SecretKey;
  readonly written: Written;
}

/** Eight parameters a row; PostgreSQL takes 65 535 a statement. */
const CHUNK = 500;
/** Rounds of insert and lock: each one lost means that a row came and went in between. */
const ROUNDS_MAX = 5;

/** Writes rows in the order of their hashes, so that two commits never wait for each other in a ring. */
export async function writePaths(
  trx: Transaction<Database>,
  {
    cacheId,
    key,
    candidates,
  }: {
    readonly cacheId: string;
    readonly key: SecretKey;
    readonly candidates: readonly Candidate[];
  },
): Promise<Written> {
  const target: Target = { cacheId, key, written: { added: [], differing: [], changed: [] } };
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
async function completedSignatures({ key }: Target, { row, path }: Meeting): Promise<string[]> {
  const references = row.references.map(storedPath);
  const signatures = new Set(row.signatures);
  if (!row.signatures.some((signature) => signature.startsWith(`${key.name}:`))) {
    signatures.add(await sign(key, fingerprint({ ...path, references })));
  }
  const sameReferences = baseNames(path.references).join(" ") === row.references.join(" ");
  if (sameReferences) for (const signature of ofOthers(key, path.signatures)) signatures.add(signature);
  return [...signatures];
}

async function rowOf({ cacheId, key }: Target, path: Candidate): Promise<NewCachePath> {
  const own = await sign(key, fingerprint(path));
  return {
    cache_id: cacheId,
    hash: storePathHash(path.storePath),
    store_path: storePathBaseName(path.storePath),
    nar_hash: path.narHash.digest,
    references: baseNames(path.references),
    deriver: path.deriver && storePathBaseName(path.deriver),
    ca: path.ca,
    signatures: [...new Set([own, ...ofOthers(key, path.signatures)])],
  };
}

/** What comes under the cache's own name is its own word or a forgery. */
function ofOthers({ name }: SecretKey, signatures: readonly string[]): readonly string[] {
  return signatures.filter((signature) => !signature.startsWith(`${name}:`));
}

function baseNames(paths: readonly StorePath[]): string[] {
  return [...new Set(paths)].map(storePathBaseName).sort();
}

function cached({ cacheId }: Target, storePath: StorePath): WrittenPath {
  return { cacheId, storePath };
}
