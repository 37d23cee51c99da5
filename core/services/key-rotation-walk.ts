import type { Kysely, Transaction } from "kysely";
import { KeyState } from "../db/cache-keys.ts";
import {
  endWalk,
  listWalkingKeys,
  lockNextPaths,
  lockWalkingKey,
  setSignatures,
  setWalkedTo,
  type WalkedPath,
  type WalkingKey,
} from "../db/cache-keys-walk.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { listCachesRestingOn } from "../db/upstreams.ts";
import { type Clock, sleep } from "../lib/clock.ts";
import type { RandomBytes } from "../lib/ids.ts";
import type { SecretKey } from "../nix/signature.ts";
import type { Logger } from "../ports/logger.ts";
import type { Notifier } from "../ports/notifier.ts";
import { storedPath } from "./cache-path.ts";
import { isNamed, type SecretKeyOf, signWith, withoutNames } from "./cache-sign.ts";
import { sha256Of } from "./nar.ts";

export interface KeyWalkDeps {
  readonly db: Kysely<Database>;
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly log: Logger;
  readonly notifier: Notifier;
  readonly secretKeyOf: SecretKeyOf;
}

/** Paths of one transaction: some 20 ms of work, during which uploads of the same paths wait. */
const CHUNK = 200;
/** What is left to others between two chunks. */
const PAUSE_MS = 20;

/**
 * Gives every path the signatures of keys that are new, and takes those of retiring keys out, as far as there is
 * something to do. What is done is recorded with it: whoever comes next goes on there. A key that fails is logged, and
 * the others go on. Returns whether none failed.
 */
export async function walkKeys(deps: KeyWalkDeps, signal: AbortSignal): Promise<boolean> {
  let well = true;
  for (const id of await listWalkingKeys(deps.db)) {
    await walkKey(deps, id, signal).catch((error: unknown) => {
      deps.log.error("the paths of a cache were not all signed anew; it is tried again", { key: id, error });
      well = false;
    });
  }
  return well;
}

async function walkKey(deps: KeyWalkDeps, id: string, signal: AbortSignal): Promise<void> {
  let told = false;
  while (!signal.aborted) {
    const step = await inTransaction(deps.db, (trx) => walkChunk(trx, deps, { id, mayEnd: told }), deps);
    if (step === null) return;
    for (const hash of step.changed) deps.notifier.notify("path", `${step.cacheId}/${hash}`);
    // Word of what was changed before a crash may not have gone out: the walk does not end before this has.
    told = step.isLast;
    if (told) await tellOfAll(deps, step.cacheId);
    else await sleep(deps.clock, PAUSE_MS, signal);
  }
}

/** Caches that rest on this one give its signatures out too. */
async function tellOfAll({ db, notifier }: KeyWalkDeps, cacheId: string): Promise<void> {
  for (const id of [cacheId, ...(await listCachesRestingOn(db, cacheId))]) notifier.notify("path", `${id}/`);
}

interface Step {
  readonly cacheId: string;
  /** Hashes of paths whose signatures are others now. */
  readonly changed: readonly string[];
  /** There was no path left. */
  readonly isLast: boolean;
}

/** Null when there is nothing more to do here. */
async function walkChunk(
  trx: Transaction<Database>,
  { secretKeyOf }: KeyWalkDeps,
  { id, mayEnd }: { readonly id: string; readonly mayEnd: boolean },
): Promise<Step | null> {
  const key = await lockWalkingKey(trx, id);
  if (!key) return null;
  const paths = await lockNextPaths(trx, key, CHUNK);
  const last = paths.at(-1);
  if (!last) {
    if (mayEnd) await endWalk(trx, key);
    return mayEnd ? null : { cacheId: key.cache_id, changed: [], isLast: true };
  }
  const secretKey = key.state === KeyState.Signing ? await secretKeyOf(key) : null;
  const results = await Promise.all(paths.map((path) => changedSignatures(key, secretKey, path)));
  const changed = paths.flatMap(({ hash }, index) => {
    const signatures = results[index];
    return signatures ? [{ hash, signatures }] : [];
  });
  await setSignatures(trx, key.cache_id, changed);
  await setWalkedTo(trx, id, last.hash);
  return { cacheId: key.cache_id, changed: changed.map(({ hash }) => hash), isLast: false };
}

/**
 * What the path's signatures are to be; null when they are right. Under the name of a new key there may be something
 * that was uploaded before the key was there: it goes.
 */
async function changedSignatures(
  { name }: WalkingKey,
  key: SecretKey | null,
  path: WalkedPath,
): Promise<string[] | null> {
  const facts = {
    storePath: storedPath(path.store_path),
    narHash: sha256Of(path.nar_hash),
    narSize: path.nar_size,
    references: path.references.map(storedPath),
  };
  const own = key ? await signWith([key], facts) : [];
  const present = path.signatures.filter((signature) => isNamed(signature, name));
  if (present.length === own.length && present.every((signature) => own.includes(signature))) return null;
  return [...withoutNames(path.signatures, [name]), ...own];
}
