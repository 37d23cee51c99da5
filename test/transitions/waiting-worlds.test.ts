import { type Kysely, sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { listConnectedWorkers } from "#core/db/connected-workers.ts";
import { setDraining } from "#core/db/scheduler-state.ts";
import type { Database } from "#core/db/schema.ts";
import type { FreeWorker } from "#core/domain/scheduling/choose.ts";
import type { WaitingReason } from "#core/domain/scheduling/waiting-reason.ts";
import { EvaluationStatus } from "#core/domain/states.ts";
import { dispatchBuilds, dispatchEvaluations } from "#core/services/transitions/dispatch.ts";
import { InputOrigins } from "#core/services/transitions/input-origins.ts";
import { reconcileWaiting } from "#core/services/transitions/waiting.ts";
import {
  insertAttempt,
  insertBuild,
  insertCacheOf,
  insertEvaluationRow,
  insertOrganization,
  insertProjectRow,
  linkBuild,
} from "../support/rows.ts";
import { dispatchDeps, type World, withWorld } from "./support.ts";
import { connectWorker } from "./workers.ts";

const WORLDS = 40;
const SYSTEMS = ["x86_64-linux", "aarch64-linux", "builtin"];
const FEATURES = ["kvm", "big-parallel"];
/** More than any world has builds: nobody waits for a place. */
const PLACES = 1_000;

let world: World;
beforeAll(async () => {
  world = await withWorld();
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

/** mulberry32 */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** Organizations with workers that can do some things, and evaluations that want some things. */
async function makeWorld(db: Kysely<Database>, random: (below: number) => number): Promise<void> {
  await sql`
    truncate organization, worker_registration, worker_connection, evaluation, build, attempt, cache cascade`.execute(
    db,
  );
  await setDraining(db, random(8) === 0);
  const chance = (one: number) => random(one) === 0;
  const some = <T>(items: readonly T[]) => items.filter(() => chance(2));
  for (let o = 0; o < 2; o++) {
    const organizationId = await insertOrganization(db, { name: `org-${o}` });
    await insertCacheOf(db, organizationId);
    for (let w = random(3); w > 0; w--) {
      await connectWorker(db, organizationId, {
        architectures: some(SYSTEMS.slice(0, 2)),
        features: some(FEATURES),
        places: chance(5) ? 0 : PLACES,
        draining: chance(6),
        fetch: !chance(3),
        eval: !chance(3),
        build: !chance(4),
      });
    }
    const builds: string[] = [];
    for (let b = random(12); b > 0; b--) {
      const status = [0, 1, 1, 1, 2, 3, 8][random(7)] as number;
      const id = await insertBuild(db, { organizationId, name: `b${b}`, status });
      const system = SYSTEMS[random(3)] as string;
      await sql`
        update build set system = ${system}, required_features = ${some(FEATURES)}, ready_at = gradient_now(),
          retry_at = case when status = 8 then gradient_now() + interval '1 hour' end
        where id = ${id}`.execute(db);
      await sql`insert into build_derivation (build_id, aterm) values (${id}, '')`.execute(db);
      if (status === 2) await insertAttempt(db, { organizationId, buildId: id });
      builds.push(id);
    }
    for (let e = random(4); e > 0; e--) {
      const projectId = await insertProjectRow(db, { organizationId, name: `p-${e}` });
      const queued = chance(3);
      const status = queued ? EvaluationStatus.Queued : EvaluationStatus.Building;
      const id = await insertEvaluationRow(db, { organizationId, projectId, status });
      if (queued) continue;
      await sql`update evaluation set building_started_at = gradient_now() where id = ${id}`.execute(db);
      for (const build of some(builds)) await linkBuild(db, id, build);
    }
  }
}

interface Shown {
  readonly id: string;
  readonly status: number;
  readonly reason: WaitingReason | null;
  readonly queued: boolean;
}

async function shown(db: Kysely<Database>): Promise<Shown[]> {
  const { rows } = await sql<Shown>`
    select id, status, waiting_reason as reason, building_started_at is null as queued from evaluation
    order by ordinal`.execute(db);
  return rows;
}

/** Gives out everything that a fleet with places enough would ever get. */
async function dispatchAll(): Promise<void> {
  const workers = (await listConnectedWorkers(world.db)).map(
    (offer): FreeWorker => ({
      ...offer,
      key: offer.workerId,
      placesAll: offer.groups.map(({ places }) => places),
      placesIdle: offer.groups.map(({ places }) => places),
      freeMemoryMb: null,
    }),
  );
  const deps = dispatchDeps(world);
  while ((await dispatchEvaluations(deps, workers)).length > 0);
  while ((await dispatchBuilds(deps, workers, new InputOrigins())).assigned.length > 0);
}

/** What the evaluation's builds that nobody took need, as a reason lists it. */
async function leftOver(db: Kysely<Database>, evaluationId: string) {
  const { rows } = await sql<{ architecture: string; required_features: string[]; build_count: number }>`
    select b.system as architecture, b.required_features, count(*)::int as build_count
    from evaluation_build l join build b on b.id = l.build_id
    where l.evaluation_id = ${evaluationId} and b.status = 1
    group by b.system, b.required_features`.execute(db);
  const text = (need: (typeof rows)[number]) => [need.architecture, ...need.required_features].join(" ");
  return rows.sort((a, b) => (text(a) < text(b) ? -1 : 1));
}

async function hasRunning(db: Kysely<Database>, evaluationId: string): Promise<boolean> {
  const { rows } = await sql`
    select from evaluation_build l join build b on b.id = l.build_id
    where l.evaluation_id = ${evaluationId} and b.status in (2, 8) limit 1`.execute(db);
  return rows.length > 0;
}

test(`in ${WORLDS} worlds what evaluations say they wait for is exactly what dispatch never gives out`, async () => {
  const { db } = world;
  const seen = new Set<string>();
  for (let seed = 1; seed <= WORLDS; seed++) {
    await makeWorld(db, randomOf(seed));
    const draining = (
      await sql<{ d: boolean }>`select draining_since is not null as d from scheduler_state`.execute(db)
    ).rows[0]?.d as boolean;
    await reconcileWaiting(world.deps);
    const said = await shown(db);
    await reconcileWaiting(world.deps);
    expect(await shown(db), `world ${seed}: a second look changes nothing`).toEqual(said);
    await dispatchAll();
    const after = new Map((await shown(db)).map((row) => [row.id, row]));

    for (const { id, status, reason, queued } of said) {
      const about = `world ${seed}, evaluation ${id}, ${JSON.stringify(reason)}`;
      seen.add(`${reason?.kind ?? "nothing"} ${queued ? "queued" : "building"} ${status}`);
      if (queued) {
        const given = after.get(id)?.status === EvaluationStatus.Fetching;
        expect(given, about).toBe(reason === null);
        expect(status === EvaluationStatus.Waiting, about).toBe(reason !== null);
        continue;
      }
      const left = await leftOver(db, id);
      expect(reason !== null, about).toBe(left.length > 0);
      expect(status === EvaluationStatus.Waiting, about).toBe(left.length > 0 && !(await hasRunning(db, id)));
      if (reason && draining) expect(reason, about).toEqual({ kind: "draining" });
      else if (reason) expect(reason, about).toMatchObject({ kind: "workers", unmet: left });
    }
  }
  // The worlds are varied enough to say something.
  for (const kind of ["workers building 3", "workers building 4", "eval_workers queued 4", "nothing queued 0"]) {
    expect([...seen], kind).toContain(kind);
  }
  expect([...seen].some((one) => one.startsWith("draining"))).toBe(true);
});
