import type { Transaction } from "kysely";
import { moveBuilds } from "../../db/build-transitions.ts";
import { listReadableStores } from "../../db/cache-paths.ts";
import { listEvaluationsOfBuilds } from "../../db/evaluation-end.ts";
import { insertMessage } from "../../db/evaluation-graph.ts";
import { setOutputsAvailable, settleEdgesAbove } from "../../db/graph.ts";
import { listRealisations } from "../../db/realisations.ts";
import {
  listUnresolved,
  lockUnresolved,
  type NewResolution,
  type OutputPlace,
  recordResolutions,
  setOutputPlaces,
  type UnresolvedBuild,
} from "../../db/resolutions.ts";
import type { Database } from "../../db/schema.ts";
import { BuildStatus, MessageLevel } from "../../domain/states.ts";
import { type Bytes, fromHex } from "../../lib/bytes.ts";
import { derivedUuid } from "../../lib/ids.ts";
import { parseDerivation } from "../../nix/derivation.ts";
import { realisationHashOf } from "../../nix/derivation-hash.ts";
import { type OutputPlaces, type ResolvedDerivation, resolveDerivation } from "../../nix/derivation-resolve.ts";
import { formatRealisationId } from "../../nix/realisation.ts";
import { parseStorePath, parseStorePathBaseName, type StorePath, storePathBaseName } from "../../nix/store-path.ts";
import { heldPaths } from "../paths-availability.ts";
import { concludeBuilds, failDependents } from "./build-end.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import { firstPlaces } from "./ingest-places.ts";
import { recordRealisations } from "./realise.ts";
import type { Wakeups } from "./wakeups.ts";

/** Of one transaction. */
const BUILDS_MAX = 100;
const DERIVATION_BYTES_AT_ONCE: number = 16 * 1024 * 1024;

/**
 * Prepares ready builds whose outputs have no paths of their own, or that need such outputs: what they need stands in
 * their derivations by its path from then on. One that was built before under the same resolved derivation, by whoever
 * fills a cache that the organization reads, ends here as substituted, and what waits for it goes on. To be called
 * before builds are given out; what is not resolved is not given out.
 */
export async function resolveReady(deps: TransitionDeps): Promise<void> {
  for (;;) {
    const ids = await listUnresolved(deps.db, { limit: BUILDS_MAX, bytesMax: DERIVATION_BYTES_AT_ONCE });
    if (ids.length === 0) return;
    // Another server may have been quicker with all of them.
    await transition(deps, (trx, wakeups) => resolveBuilds(trx, wakeups, ids));
  }
}

async function resolveBuilds(trx: Transaction<Database>, wakeups: Wakeups, ids: readonly string[]): Promise<void> {
  const builds = await lockUnresolved(trx, ids);
  const attempts: Attempt[] = [];
  const failures: Failure[] = [];
  for (const build of builds) {
    try {
      attempts.push(await attempt(build));
    } catch (error) {
      // It follows from what is recorded, so it would come again, and everybody's builds wait for this pass.
      const reason = error instanceof Error ? error.message : String(error);
      failures.push({ build, message: `it cannot be built: ${reason}` });
    }
  }
  await recordResolutions(
    trx,
    attempts.map(({ build, resolved, hash }): NewResolution => {
      const drv_path = storePathBaseName(resolved.drvPath);
      const realisation_hash = hash === null ? null : (fromHex(hash) as Bytes);
      return { build_id: build.id, drv_path, realisation_hash, aterm: resolved.aterm };
    }),
  );
  for (const [organizationId, own] of Map.groupBy(attempts, ({ build }) => build.organization_id)) {
    await cutOff(trx, wakeups, organizationId, own);
    // Ready from now on, or opened by what was cut off.
    wakeups.work(organizationId);
  }
  await fail(trx, wakeups, failures);
}

interface Attempt {
  readonly build: UnresolvedBuild;
  readonly resolved: ResolvedDerivation;
  /** Null where the resolved derivation states where its outputs are. */
  readonly hash: string | null;
}

interface Failure {
  readonly build: UnresolvedBuild;
  readonly message: string;
}

async function attempt(build: UnresolvedBuild): Promise<Attempt> {
  const drvPath = parseStorePathBaseName(build.drv_path) as StorePath;
  const resolved = await resolveDerivation(drvPath, parseDerivation(build.aterm), placesOf(build));
  const isFloating = [...resolved.derivation.outputs.values()].some(({ path }) => path === "");
  return { build, resolved, hash: isFloating ? await realisationHashOf(resolved.derivation) : null };
}

function placesOf({ needs }: UnresolvedBuild): OutputPlaces {
  const places = new Map<StorePath, Map<string, StorePath>>();
  for (const { drv_path, output, store_path } of needs) {
    const derivation = parseStorePathBaseName(drv_path);
    const place = parseStorePathBaseName(store_path ?? "");
    if (!derivation || !place) continue;
    places.set(derivation, (places.get(derivation) ?? new Map()).set(output, place));
  }
  return places;
}

/** Says where outputs are as far as that is known now, and ends what is there with all of them. */
async function cutOff(
  trx: Transaction<Database>,
  wakeups: Wakeups,
  organizationId: string,
  attempts: readonly Attempt[],
): Promise<void> {
  const cacheIds = (await listReadableStores(trx, organizationId)).map(({ id }) => id);
  const keys = attempts.flatMap(({ build, hash }) =>
    hash === null ? [] : build.outputs.map(({ name: output }) => ({ hash, output })),
  );
  const told = firstPlaces(await listRealisations(trx, { cacheIds, keys }), cacheIds);
  const places = attempts.flatMap(({ build, resolved, hash }) =>
    build.outputs.flatMap(({ name }): OutputPlace[] => {
      const stated = parseStorePath(resolved.derivation.outputs.get(name)?.path ?? "");
      const place = stated
        ? storePathBaseName(stated)
        : told.get(formatRealisationId({ hash: hash ?? "", output: name }));
      return place === undefined ? [] : [{ build_id: build.id, name, store_path: place }];
    }),
  );
  const paths = places.flatMap(({ store_path }) => parseStorePathBaseName(store_path) ?? []);
  const found = await heldPaths(trx, organizationId, paths);
  const present = new Set(Array.from(found.keys(), storePathBaseName));
  const isThere = ({ store_path }: OutputPlace) => present.has(store_path);
  const placesOfBuild = Map.groupBy(places, ({ build_id }) => build_id);
  const done = attempts
    .map(({ build }) => build)
    .filter(({ id, outputs }) => (placesOfBuild.get(id) ?? []).filter(isThere).length === outputs.length)
    .map(({ id }) => id);
  const isDone = new Set(done);
  // Of a floating build that is to be built again another place may come out.
  const states = new Set(attempts.filter(({ hash }) => hash === null).map(({ build }) => build.id));
  await setOutputPlaces(
    trx,
    places.filter(({ build_id }) => isDone.has(build_id) || states.has(build_id)),
  );
  if (done.length === 0) return;
  await moveBuilds(trx, done, { from: [BuildStatus.Queued], to: BuildStatus.Substituted });
  await setOutputsAvailable(
    trx,
    places.filter(({ build_id }) => isDone.has(build_id)).map((place) => ({ ...place, available: true })),
  );
  await recordRealisations(trx, organizationId, done);
  await settleEdgesAbove(trx, done);
  await concludeBuilds(trx, wakeups, done);
}

/** What was recorded does not allow to build it: a fault of ours, or a derivation that grows beyond all limits. */
async function fail(trx: Transaction<Database>, wakeups: Wakeups, failures: readonly Failure[]): Promise<void> {
  if (failures.length === 0) return;
  const ids = failures.map(({ build }) => build.id);
  await moveBuilds(trx, ids, { from: [BuildStatus.Queued], to: BuildStatus.FailedPermanent });
  for (const { build, message } of failures) {
    for (const evaluationId of await listEvaluationsOfBuilds(trx, [build.id])) {
      await insertMessage(trx, {
        id: await derivedUuid(evaluationId, build.drv_path),
        evaluation_id: evaluationId,
        level: MessageLevel.Error,
        message: `${build.drv_path}: ${message}`,
        source: "scheduler",
        attribute: null,
      });
    }
  }
  const above = await failDependents(trx, ids);
  await concludeBuilds(trx, wakeups, [...ids, ...above]);
}
