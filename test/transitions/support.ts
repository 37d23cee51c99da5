import { createHash } from "node:crypto";
import { type Kysely, sql } from "kysely";
import type { ProvenWorker } from "#core/db/attempts.ts";
import { listQueuedEvaluations } from "#core/db/evaluation-claims.ts";
import type { Database } from "#core/db/schema.ts";
import { DEFAULT_RETRY_POLICY } from "#core/domain/failure.ts";
import { buildStatusName, evaluationStatusName } from "#core/domain/states.ts";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom, uuidV4 } from "#core/lib/ids.ts";
import type { BuildResult, FailureClass } from "#core/protocol/worker-messages.ts";
import { type AssignedBuild, assignEvaluations } from "#core/services/transitions/assign.ts";
import { endBuild } from "#core/services/transitions/build-end.ts";
import type { TransitionDeps } from "#core/services/transitions/deps.ts";
import { type DispatchDeps, dispatchBuilds } from "#core/services/transitions/dispatch.ts";
import { endEvaluationAttempt } from "#core/services/transitions/evaluation-progress.ts";
import { ingestBatch } from "#core/services/transitions/ingest.ts";
import { InputOrigins } from "#core/services/transitions/input-origins.ts";
import type { ParsedNode } from "#core/services/transitions/parse-nodes.ts";
import { withDatabase } from "../support/database.ts";
import { quietLogger } from "../support/quiet-logger.ts";
import { insertCacheOf, insertEvaluationRow, insertOrganization, insertProjectRow, newId } from "../support/rows.ts";
import { BROKEN_INVARIANTS, failFor } from "./invariants.ts";
import { drvPathOf, nameOf, SYSTEM } from "./nodes.ts";

type Db = Kysely<Database>;

export interface Evaluating {
  readonly id: string;
  readonly attemptId: string;
}

export interface World extends AsyncDisposable {
  readonly db: Db;
  readonly deps: TransitionDeps;
  readonly organizationId: string;
  readonly projectId: string;
  readonly cacheId: string;
  readonly workerId: string;
  /** `topic subject` of each wake-up. */
  readonly notified: string[];
}

/** An organization with a project and a cache it reads and writes, and a state machine on a database of its own. */
export async function withWorld(options: { readonly connectionsMax?: number } = {}): Promise<World> {
  const database = await withDatabase(options);
  const { db } = database;
  const notified: string[] = [];
  const deps: TransitionDeps = {
    db,
    clock: systemClock,
    random: systemRandom,
    notifier: { notify: (topic, subject) => notified.push(`${topic} ${subject}`), subscribe: () => () => {} },
    log: quietLogger,
    retry: DEFAULT_RETRY_POLICY,
    leaseMs: 60_000,
  };
  const organizationId = await insertOrganization(db, { name: "acme" });
  const projectId = await insertProjectRow(db, { organizationId });
  const cacheId = await insertCacheOf(db, organizationId);
  const dispose = () => database[Symbol.asyncDispose]();
  return {
    db,
    deps,
    organizationId,
    projectId,
    cacheId,
    workerId: uuidV4(),
    notified,
    [Symbol.asyncDispose]: dispose,
  };
}

/** A new evaluation that a worker has just taken. */
export async function startEvaluation(world: World, workerId = world.workerId): Promise<Evaluating> {
  const { organizationId } = world;
  // One project has one evaluation at a time; these run side by side.
  const projectId = await insertProjectRow(world.db, { organizationId, name: `site-${newId()}` });
  const id = await insertEvaluationRow(world.db, { organizationId, projectId, status: 0 });
  return { id, attemptId: await takeEvaluation(world, id, workerId) };
}

/** Has the worker take this evaluation, which is the only queued one. */
export async function takeEvaluation(world: World, id: string, workerId = world.workerId): Promise<string> {
  const attemptId = (await takeEvaluations(world, workerId)).get(id);
  if (attemptId === undefined) throw new Error("the evaluation was not given out");
  return attemptId;
}

/** Has the worker take all queued evaluations. Attempts by evaluation. */
export async function takeEvaluations(world: World, workerId: string): Promise<Map<string, string>> {
  const queued = await listQueuedEvaluations(world.db, [world.organizationId], 100);
  const choices = queued.map(({ id }) => ({ evaluationId: id, workerId, deadlineMs: null, part: "whole" as const }));
  const taken = await assignEvaluations(world.deps, choices);
  return new Map(taken.map(({ id, attemptId }) => [id, attemptId]));
}

export async function ingest(
  world: World,
  { attemptId }: Evaluating,
  nodes: readonly ParsedNode[],
  entryPoints: Readonly<Record<string, string>> = {},
): Promise<boolean> {
  const points = Object.entries(entryPoints).map(([name, drv]) => ({ attribute: [name], drvPath: drvPathOf(drv) }));
  return await ingestBatch(world.deps, attemptId, { nodes, entryPoints: points });
}

export async function finishEvaluation(world: World, { attemptId }: Evaluating): Promise<boolean> {
  const result = { kind: "evaluation", status: "completed", failure: null } as const;
  return await endEvaluationAttempt(world.deps, attemptId, result, newId());
}

/** A whole evaluation: taken, reported in one batch, done. Returns its id. */
export async function evaluate(world: World, nodes: readonly ParsedNode[]): Promise<string> {
  const evaluation = await startEvaluation(world);
  await ingest(world, evaluation, nodes);
  await finishEvaluation(world, evaluation);
  return evaluation.id;
}

export interface ClaimOptions {
  readonly workerId?: string;
  readonly organizationIds?: readonly string[];
  readonly systems?: readonly string[];
  readonly features?: readonly string[];
  readonly limit?: number;
}

/** Has a worker with that many free places given what is ready. */
export async function claim(world: World, options: ClaimOptions = {}): Promise<Map<string, AssignedBuild>> {
  const { workerId = world.workerId, systems = [SYSTEM], features = [], limit: places = 1000 } = options;
  const { organizationIds = [world.organizationId] } = options;
  const worker = {
    workerId,
    key: workerId,
    draining: false,
    grants: organizationIds.map((organizationId) => ({ organizationId, fetch: true, eval: true, build: true })),
    groups: [{ architectures: systems, systemFeatures: features, places }],
    placesAll: [places],
    placesIdle: [places],
    evaluationPlaces: 0,
    freeMemoryMb: null,
  };
  const { assigned } = await dispatchBuilds(dispatchDeps(world), [worker], new InputOrigins());
  return new Map(assigned.map((build) => [nameOf(build.drv_path), build]));
}

/** The world's state machine with limits that nothing reaches. */
export function dispatchDeps({ deps }: Pick<World, "deps">): DispatchDeps {
  return { ...deps, limits: { build: { timeoutMs: 0, maxSilentMs: 0 }, evaluation: { timeoutMs: 0 } } };
}

/** Claims what is ready and expects this build among it. What else was claimed is given back. */
export async function claimOne(world: World, name: string): Promise<AssignedBuild> {
  await sql`update build set priority = case when drv_path = ${drvPathOf(name)} then 1 else 0 end`.execute(world.db);
  const build = (await claim(world, { limit: 1 })).get(name);
  if (!build) throw new Error(`${name} was not given out`);
  return build;
}

/** Uploads the build's outputs and reports that it was built. */
export async function succeed(world: World, build: Pick<AssignedBuild, "attemptId" | "drv_path">): Promise<boolean> {
  const rows = await world.db
    .selectFrom("build_output")
    .innerJoin("build", "build.id", "build_output.build_id")
    .select("store_path")
    .where("drv_path", "=", build.drv_path)
    .execute();
  for (const { store_path } of rows) await putPath(world, store_path as string);
  const result: BuildResult = { kind: "build", status: "built", outputs: [], failure: null, build_ms: 1 };
  return await endBuild(world.deps, build.attemptId, result);
}

export async function fail(
  world: World,
  { attemptId }: Pick<AssignedBuild, "attemptId">,
  failure: FailureClass,
): Promise<boolean> {
  return await endBuild(world.deps, attemptId, {
    kind: "build",
    status: "failed",
    outputs: [],
    failure: { class: failure, message: `it failed: ${failure}`, missing: [] },
    build_ms: 1,
  });
}

/** Makes a store path present in the world's cache. */
export async function putPath({ db, cacheId }: Pick<World, "db" | "cacheId">, storePath: string): Promise<void> {
  const nar_hash = createHash("sha256").update(storePath).digest();
  const rest = { nar_size: 1, file_hash: nar_hash, file_size: 1, compression: "none", object_key: `nar/${storePath}` };
  await db
    .insertInto("nar")
    .values({ nar_hash, ...rest })
    .onConflict((conflict) => conflict.column("nar_hash").doUpdateSet({ damaged_at: null }))
    .execute();
  await db
    .insertInto("cache_path")
    .values({ cache_id: cacheId, hash: storePath.slice(0, 32), store_path: storePath, nar_hash })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/** The stored NAR turns out to be damaged: no cache has the path any more. */
export async function losePath(db: Db, storePath: string): Promise<void> {
  const nar_hash = createHash("sha256").update(storePath).digest();
  await sql`update nar set damaged_at = gradient_now() where nar_hash = ${nar_hash}`.execute(db);
}

/** The state of every build, by name. */
export async function buildStates({ db }: Pick<World, "db">): Promise<Record<string, string>> {
  const rows = await db.selectFrom("build").select(["drv_path", "status"]).orderBy("name").execute();
  return Object.fromEntries(rows.map((row) => [nameOf(row.drv_path), buildStatusName(row.status)]));
}

export async function evaluationState({ db }: Pick<World, "db">, id: string): Promise<string> {
  const row = await db.selectFrom("evaluation").select("status").where("id", "=", id).executeTakeFirstOrThrow();
  return evaluationStatusName(row.status);
}

/** The evaluation's link to a build. */
export async function linkOf({ db }: Pick<World, "db">, evaluationId: string, name: string): Promise<string> {
  const { rows } = await sql<{ id: string }>`
    select l.id from evaluation_build l join build b on b.id = l.build_id
    where l.evaluation_id = ${evaluationId} and b.drv_path = ${drvPathOf(name)}`.execute(db);
  return rows[0]?.id as string;
}

/** What the evaluation's links were frozen with, by name. */
export async function frozenLinks({ db }: Pick<World, "db">, evaluationId: string) {
  const rows = await db
    .selectFrom("evaluation_build")
    .innerJoin("build", "build.id", "evaluation_build.build_id")
    .select(["drv_path", "outcome", "attempt_id"])
    .where("evaluation_id", "=", evaluationId)
    .execute();
  return new Map(
    rows.map(({ drv_path, outcome, attempt_id }) => [
      nameOf(drv_path),
      { outcome: outcome === null ? null : buildStatusName(outcome), attemptId: attempt_id },
    ]),
  );
}

/** The pauses of all retries and the leases of these attempts are over. */
export async function passTime({ db }: Pick<World, "db">, attemptIds: readonly string[] = []): Promise<void> {
  await sql`update build set retry_at = gradient_now() where status = 8`.execute(db);
  await sql`
    update attempt set lease_expires_at = gradient_now() - interval '1 second'
    where id = any(${attemptIds}) and finished_at is null`.execute(db);
}

/** Throws with the rows that break an invariant. To be called when no transition is under way. */
export async function checkInvariants(db: Db): Promise<void> {
  const { rows } = await sql.raw<{ broken: Readonly<Record<string, unknown>> | null }>(BROKEN_INVARIANTS).execute(db);
  failFor(rows[0]?.broken ?? null);
}

/** The worker with what its organization's token proves. */
export function provenWorker({ organizationId, workerId }: World, id: string = workerId): ProvenWorker {
  return { workerId: id, organizationIds: [organizationId] };
}
