import { sql, type Transaction } from "kysely";
import { lockBuilds } from "../../db/build-transitions.ts";
import { listEvaluationsOfBuilds } from "../../db/evaluation-end.ts";
import { linkBuilds } from "../../db/evaluation-graph.ts";
import {
  deleteLosses,
  listBuildsToReopen,
  listDependents,
  listRecordedOutputs,
  listSuspectPaths,
  listUntoldDependents,
  lockEvaluationsAbove,
  lockNextLoss,
  markOutputsLost,
  type RecordedOutput,
  recountBuilds,
  reopenBuilds,
} from "../../db/loss.ts";
import { deleteLostPaths, listLostPaths } from "../../db/lost-paths.ts";
import { addNeeds, listLostInputs } from "../../db/missing-inputs.ts";
import { insertRecoveryNeeds } from "../../db/recovery.ts";
import type { Database } from "../../db/schema.ts";
import { BuildStatus } from "../../domain/states.ts";
import { chunksOf } from "../../lib/chunks.ts";
import { uuidV7 } from "../../lib/ids.ts";
import { parseStorePathBaseName, type StorePath, storePathBaseName } from "../../nix/store-path.ts";
import { pathsWithinReach } from "../paths-availability.ts";
import { concludeBuilds, failDependents } from "./build-end.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import type { Wakeups } from "./wakeups.ts";

/** Outputs that one transaction takes away, and dependents that one tells of it. */
const CHUNK = 500;
const SUSPECTS_MAX = 1_000;
/** After as many rounds that met newcomers, locks are taken out of order: a deadlock repeats the transaction. */
const ROUNDS_MAX = 5;

/**
 * These paths can no longer be had, as somebody found out. For every organization that indeed has no other way to them
 * their outputs are lost: what rests on them waits, and what an open build wants is built again. Where it was never
 * recorded how, `tendRecoveries` goes on. Returns how many outputs were lost.
 */
export async function loseOutputs(
  deps: TransitionDeps,
  storePaths: readonly StorePath[],
  organizationId: string | null = null,
): Promise<number> {
  let lost = 0;
  for (const chunk of chunksOf(storePaths, CHUNK)) {
    const recorded = await listRecordedOutputs(deps.db, chunk.map(storePathBaseName), organizationId);
    const outputs = await outOfReach(deps.db, recorded);
    for (const part of chunksOf(outputs, CHUNK)) lost += await lose(deps, part);
  }
  if (lost > 0) deps.log.warn("outputs have vanished; what open builds need of them is built again", { outputs: lost });
  await settleLosses(deps);
  return lost;
}

/** What was found damaged, lost by an upstream, or deleted since the last time. To be called every few seconds. */
export async function loseSuspects(deps: TransitionDeps): Promise<void> {
  const lost = await listLostPaths(deps.db, SUSPECTS_MAX);
  const suspects = [...(await listSuspectPaths(deps.db, SUSPECTS_MAX)), ...lost.map(({ store_path }) => store_path)];
  if (suspects.length > 0) await loseOutputs(deps, storePathsOf([...new Set(suspects)]));
  else await settleLosses(deps);
  if (lost.length > 0) await deleteLostPaths(deps.db, lost);
}

/** Opens again what open builds want of these builds, whose outputs are recorded as missing. */
export async function reopenWanted(deps: TransitionDeps, buildIds: readonly string[]): Promise<void> {
  await transition(deps, (trx, wakeups) => reopenWantedWithin(trx, deps, wakeups, buildIds));
}

/** The same as a part of what opens the builds above them. */
export async function reopenWantedWithin(
  trx: Transaction<Database>,
  deps: TransitionDeps,
  wakeups: Wakeups,
  buildIds: readonly string[],
): Promise<void> {
  await lockWith(trx, buildIds, () => listBuildsToReopen(trx, buildIds, { assumeLost: false }));
  await reopen(trx, deps, wakeups, buildIds);
}

/**
 * A build turned out to need these paths, which are lost, though no edge says so: an input of it refers to them. It
 * waits for those that a build of its organization makes, which is opened again. Returns these paths.
 */
export async function waitForLost(
  deps: TransitionDeps,
  buildId: string,
  storePaths: readonly StorePath[],
): Promise<ReadonlySet<StorePath>> {
  const names = new Map(storePaths.map((path) => [storePathBaseName(path), path]));
  return await transition(deps, async (trx, wakeups) => {
    const find = () => listLostInputs(trx, buildId, [...names.keys()]);
    const makers = async () => [...new Set((await find()).map(({ build_id }) => build_id))];
    await lockWith(trx, [buildId], async () => {
      const ids = await makers();
      return [...ids, ...(await listBuildsToReopen(trx, ids, { assumeLost: true, allWanted: true }))];
    });
    const inputs = await find();
    if (inputs.length === 0) return new Set();
    await addNeeds(trx, buildId, inputs);
    await reopen(trx, deps, wakeups, await makers());
    await recountBuilds(trx, [buildId]);
    return new Set(inputs.flatMap(({ store_path }) => names.get(store_path) ?? []));
  });
}

/** Tells dependents that were not told in the transaction of the loss, in chunks that are each a transaction. */
async function settleLosses(deps: TransitionDeps): Promise<void> {
  let more = true;
  while (more) {
    more = await transition(deps, async (trx, wakeups) => {
      const buildId = await lockNextLoss(trx);
      if (buildId === undefined) return false;
      const untold = await listUntoldDependents(trx, buildId, CHUNK);
      const locked = await lockBuilds(trx, untold);
      await recountBuilds(trx, untold);
      if (untold.length < CHUNK) await deleteLosses(trx, [buildId]);
      wakeups.evaluations(await listEvaluationsOfBuilds(trx, untold));
      for (const { organization_id } of locked) wakeups.work(organization_id);
      return true;
    });
  }
}

async function lose(deps: TransitionDeps, outputs: readonly RecordedOutput[]): Promise<number> {
  const buildIds = [...new Set(outputs.map(({ build_id }) => build_id))];
  return await transition(deps, async (trx, wakeups) => {
    const isSmall = (await listDependents(trx, buildIds, CHUNK + 1)).length <= CHUNK;
    const dependents = async () => (isSmall ? await listDependents(trx, buildIds, 2 * CHUNK) : []);
    await lockWith(trx, buildIds, async () => [
      ...(await listBuildsToReopen(trx, buildIds, { assumeLost: true })),
      ...(await dependents()),
    ]);
    // Who links further ones locks the builds that are held here.
    const above = await dependents();
    // Somebody may have brought them back while the locks were waited for.
    const gone = await outOfReach(trx, outputs);
    const lostIds = await markOutputsLost(trx, gone);
    await reopen(trx, deps, wakeups, lostIds);
    if (isSmall) {
      await recountBuilds(trx, above);
      await deleteLosses(trx, lostIds);
    }
    wakeups.evaluations(await listEvaluationsOfBuilds(trx, [...buildIds, ...above]));
    for (const { organization_id } of outputs) wakeups.work(organization_id);
    return gone.length;
  });
}

async function reopen(
  trx: Transaction<Database>,
  deps: TransitionDeps,
  wakeups: Wakeups,
  buildIds: readonly string[],
): Promise<void> {
  const wanted = await listBuildsToReopen(trx, buildIds, { assumeLost: false });
  if (wanted.length === 0) return;
  await insertRecoveryNeeds(trx, wanted);
  const opened = await reopenBuilds(trx, wanted);
  await recountBuilds(trx, opened);
  const links = await lockEvaluationsAbove(trx, opened);
  for (const [evaluationId, missing] of Map.groupBy(links, ({ evaluation_id }) => evaluation_id)) {
    const rows = missing.map(({ build_id }) => ({ id: uuidV7(deps.clock.now(), deps.random), build_id }));
    await linkBuilds(trx, evaluationId, rows);
  }
  // A builder that fails by itself would only fail again, and with it what rests on it.
  const closed = await lockBuilds(trx, wanted);
  const failed = closed.filter(({ status }) => status === BuildStatus.FailedPermanent).map(({ id }) => id);
  const failedAbove = failed.length > 0 ? await failDependents(trx, failed) : [];
  await concludeBuilds(trx, wakeups, [...opened, ...failedAbove]);
  for (const { organization_id } of closed) wakeups.work(organization_id);
}

/** Locks these builds and what `others` finds, all in id order, until nothing new is found under the locks. */
async function lockWith(
  trx: Transaction<Database>,
  buildIds: readonly string[],
  others: () => Promise<readonly string[]>,
): Promise<void> {
  let found = await others();
  for (let round = 1; ; round++) {
    await sql`savepoint before_locks`.execute(trx);
    const locked = new Set([...buildIds, ...found]);
    await lockBuilds(trx, [...locked]);
    found = await others();
    if (round === ROUNDS_MAX || found.every((id) => locked.has(id))) break;
    await sql`rollback to savepoint before_locks`.execute(trx);
  }
  await sql`release savepoint before_locks`.execute(trx);
}

async function outOfReach(
  db: TransitionDeps["db"],
  outputs: readonly RecordedOutput[],
): Promise<readonly RecordedOutput[]> {
  const gone: RecordedOutput[] = [];
  for (const [organizationId, own] of Map.groupBy(outputs, ({ organization_id }) => organization_id)) {
    const paths = storePathsOf(own.map(({ store_path }) => store_path));
    const reached = await pathsWithinReach(db, organizationId, paths);
    const isGone = ({ store_path }: RecordedOutput) => !reached.has(parseStorePathBaseName(store_path) as StorePath);
    gone.push(...own.filter(isGone));
  }
  return gone;
}

function storePathsOf(baseNames: readonly string[]): StorePath[] {
  return baseNames.flatMap((name) => parseStorePathBaseName(name) ?? []);
}
