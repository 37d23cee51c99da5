import { listReadableStores } from "../db/cache-paths.ts";
import { restoreNar } from "../db/nar-health.ts";
import { type DamagedNar, listPathsToRepair, type PathToRepair, postponeRepair } from "../db/nar-repairs.ts";
import { insertNarFile, lockNarsForUpdate, type NewNar, replaceNarObject } from "../db/nars.ts";
import { inTransaction } from "../db/transaction.ts";
import { type NarHealer, repairPauseMs } from "../domain/nar-health.ts";
import { DomainError } from "../errors.ts";
import { equalBytes, toHex } from "../lib/bytes.ts";
import type { StorePath } from "../nix/store-path.ts";
import type { Compression } from "../ports/codec.ts";
import { OutboundError } from "../ports/outbound.ts";
import { storedPath } from "./cache-path.ts";
import { type Nar, narOf } from "./nar.ts";
import { announceNarPaths } from "./nar-damage.ts";
import { type NarReceiveDeps, storeObject } from "./nar-receive.ts";
import { settleRecorded } from "./nar-record.ts";
import { NarUnreadError, verifyNar } from "./nar-verify.ts";
import type { OpenedPath } from "./opened-path.ts";
import { openUpstreamPath, type UpstreamOpenDeps } from "./upstream-open.ts";
import { UpstreamFailedError } from "./upstream-probe.ts";

export interface NarRepairDeps extends NarReceiveDeps, UpstreamOpenDeps {}

/** `settled`: somebody else has repaired it meanwhile, or it was removed. */
export type RepairOutcome = { readonly healedBy: NarHealer | "settled" } | { readonly problem: string };

/** Names and caches of one NAR that are looked for in upstreams. */
const PATHS_MAX = 20;
const PROBLEM_LENGTH_MAX = 1_000;

/**
 * Tries to bring a damaged NAR back from where this server can reach: the object itself, which may have been
 * unreachable or misread for a while, and the upstreams of the caches that offer it. What comes is proven by hash and
 * size before it counts. When nobody has it, that is recorded with the reason, and the next try waits longer; workers
 * are asked then (`listNarsWanted`), and the next push heals it anyway. Throws what the database throws.
 *
 * Where the process may die: as in `receiveNar`. The new object is durable under a key of its own before the row is
 * swapped, and the old one is deleted after that.
 */
export async function repairNar(deps: NarRepairDeps, row: DamagedNar): Promise<RepairOutcome> {
  const nar = narOf(row);
  const problems: string[] = [];
  const attempts = [() => repairFromStorage(deps, nar), () => repairFromUpstreams(deps, nar)];
  for (const attempt of attempts) {
    const outcome = await attempt();
    if ("healedBy" in outcome) {
      const fields = { objectKey: nar.objectKey, from: outcome.healedBy };
      if (outcome.healedBy !== "settled") deps.log.info("a damaged NAR was repaired and is served again", fields);
      return outcome;
    }
    problems.push(outcome.problem);
  }
  const problem = problems.join("; ").slice(0, PROBLEM_LENGTH_MAX);
  await postponeRepair(deps.db, nar, { problem, pauseMs: repairPauseMs(row.attempts + 1) });
  // Workers are asked from now on.
  if (row.attempts === 0) deps.notifier.notify("damage", toHex(row.nar_hash));
  return { problem };
}

/** The object is read whole: what was a fault of the moment is over. */
async function repairFromStorage(deps: NarRepairDeps, nar: Nar): Promise<RepairOutcome> {
  try {
    const damage = await verifyNar(deps, nar, { unpack: true });
    if (damage) return { problem: damage.message };
  } catch (error) {
    if (error instanceof NarUnreadError) return { problem: `the store cannot be read: ${error.message}` };
    throw error;
  }
  const restored = await restoreNar(deps.db, { narHash: nar.narHash.digest, objectKey: nar.objectKey });
  await announceNarPaths(deps, nar.narHash);
  return { healedBy: restored ? "storage" : "settled" };
}

async function repairFromUpstreams(deps: NarRepairDeps, nar: Nar): Promise<RepairOutcome> {
  const named = await listPathsToRepair(deps.db, nar.narHash.digest, PATHS_MAX);
  if (named.length === 0) return { problem: "no cache offers it any more" };
  const problems = new Set<string>();
  for (const [baseName, places] of Map.groupBy(named, ({ store_path }) => store_path)) {
    const path = storedPath(baseName);
    try {
      const opened = await openUpstreamPath(deps, await cachesOf(deps, places), path);
      if (!opened) problems.add(`no upstream has ${path}`);
      else {
        const healedBy = await repairFromUpstream(deps, nar, opened);
        if (healedBy) return { healedBy };
        problems.add(`what an upstream has of ${path} is another build of it`);
      }
    } catch (error) {
      problems.add(`${path}: ${describeFailure(deps, path, error)}`);
    }
  }
  return { problem: [...problems].join("; ") };
}

/** What an upstream sends, or does not, is no error of ours. */
function describeFailure({ log }: NarRepairDeps, path: StorePath, error: unknown): string {
  const isTheirs =
    error instanceof DomainError || error instanceof OutboundError || error instanceof UpstreamFailedError;
  if (isTheirs) return error.message;
  log.warn("a damaged NAR could not be fetched and stored anew", { path, error });
  return "what an upstream has of it could not be fetched and stored; the server's log says why";
}

/** An organization's own store rests on the upstreams of all caches that the organization reads. */
async function cachesOf({ db }: NarRepairDeps, places: readonly PathToRepair[]): Promise<string[]> {
  const ids = new Set<string>();
  for (const { cache_id, organization_id } of places) {
    ids.add(cache_id);
    if (organization_id === null) continue;
    for (const store of await listReadableStores(db, organization_id)) ids.add(store.id);
  }
  return [...ids];
}

/** Null when the upstream's NAR is another one. */
async function repairFromUpstream(
  deps: NarRepairDeps,
  nar: Nar,
  { info, body, compression }: OpenedPath,
): Promise<NarHealer | "settled" | null> {
  const isSame = equalBytes(info.narHash.digest, nar.narHash.digest) && info.narSize === nar.narSize;
  if (!isSame) {
    await body[Symbol.asyncIterator]().return?.();
    return null;
  }
  const { narHash, narSize } = nar;
  const candidate = await storeObject(deps, { narHash, narSize, compression: compression as Compression, body });
  return (await replaceDamaged(deps, candidate, "upstream")) ? "upstream" : "settled";
}

/**
 * Puts an object that is durable and proven in the place of a damaged one. False, and the object is deleted, when the
 * NAR is sound by now, or nobody knows it any more: a repair brings back nothing that was removed.
 */
export async function replaceDamaged(
  deps: NarReceiveDeps,
  candidate: NewNar,
  healedBy: Extract<NarHealer, "upstream" | "worker">,
): Promise<boolean> {
  const replaced = await inTransaction(
    deps.db,
    async (trx) => {
      const [row] = await lockNarsForUpdate(trx, [candidate.nar_hash]);
      if (!row?.damaged_at) return null;
      await replaceNarObject(trx, candidate, healedBy);
      await insertNarFile(trx, candidate.file_hash, candidate.nar_hash);
      return row.object_key;
    },
    deps,
  );
  const healed = replaced === null ? [] : [candidate.nar_hash];
  await settleRecorded(deps, { superfluousKeys: [replaced ?? candidate.object_key], healed });
  return replaced !== null;
}

export interface ReturnedNar {
  readonly compression: Compression;
  readonly body: OpenedPath["body"];
}

/** A worker sends the NAR that it was asked for. Throws `DomainError` when it is not that NAR. */
export async function repairFromWorker(
  deps: NarReceiveDeps,
  nar: Pick<Nar, "narHash" | "narSize">,
  returned: ReturnedNar,
): Promise<boolean> {
  const candidate = await storeObject(deps, { ...nar, ...returned });
  return await replaceDamaged(deps, candidate, "worker");
}
