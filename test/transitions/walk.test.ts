import { expect, test } from "vitest";
import { ACTIVE_EVALUATION, type EvaluationStatus } from "#core/domain/states.ts";
import { DomainError } from "#core/errors.ts";
import { type Clock, systemClock } from "#core/lib/clock.ts";
import { type RandomBytes, uuidV4 } from "#core/lib/ids.ts";
import { parseStorePathBaseName, type StorePath } from "#core/nix/store-path.ts";
import type { FailureClass } from "#core/protocol/worker-messages.ts";
import { availablePaths } from "#core/services/paths-availability.ts";
import { abortEvaluation } from "#core/services/transitions/abort.ts";
import type { AssignedBuild } from "#core/services/transitions/assign.ts";
import { endEvaluationAttempt } from "#core/services/transitions/evaluation-progress.ts";
import { expireLeases, reattachWorker, returnAttempt, tidyTransitions } from "#core/services/transitions/leases.ts";
import type { ParsedNode } from "#core/services/transitions/parse-nodes.ts";
import { restartFailed } from "#core/services/transitions/restart.ts";
import { newId } from "../support/rows.ts";
import { node, outputPathOf } from "./nodes.ts";
import {
  checkInvariants,
  claim,
  type Evaluating,
  fail,
  finishEvaluation,
  ingest,
  losePath,
  passTime,
  provenWorker,
  startEvaluation,
  succeed,
  takeEvaluations,
  type World,
  withWorld,
} from "./support.ts";

const STEPS = 300;
const NODES = 24;
const FAILURES: readonly FailureClass[] = [
  "transient",
  "permanent",
  "timeout",
  "inputs_unavailable",
  "out_of_memory",
  "aborted",
];

interface Running {
  readonly attemptId: string;
  readonly drv_path: string;
  readonly workerId: string;
  readonly inputs: readonly string[];
}

interface Report extends Evaluating {
  readonly workerId: string;
  /** What is still to be reported, bottom-up. */
  readonly left: ParsedNode[];
  last: readonly ParsedNode[];
}

/** Workers, people and decaying disks, who do what comes to their mind. */
class Walk {
  readonly #random: () => number;
  readonly #world: World;
  readonly #graph: readonly { readonly name: string; readonly outputs: string[]; readonly needs: string[] }[];
  readonly #workers: readonly string[] = [uuidV4(), uuidV4(), uuidV4()];
  #running: Running[] = [];
  #reports: Report[] = [];
  #ended: Running[] = [];

  constructor(world: World, random: () => number) {
    this.#world = world;
    this.#random = random;
    this.#graph = Array.from({ length: NODES }, (_, i) => {
      const below = Array.from({ length: Math.min(i, this.#below(4)) }, () => this.#below(i));
      const needs = [...new Set(below)].map((k) => `n${k}${k % 3 === 0 && this.#below(2) === 0 ? ":dev" : ""}`);
      return { name: `n${i}`, outputs: i % 3 === 0 ? ["dev", "out"] : ["out"], needs };
    });
  }

  /** Takes one step, and says which. */
  async step(): Promise<string> {
    const [what, act] = this.#pick([
      ["evaluate", () => this.#evaluate()],
      ["report", () => this.#report()],
      ["report", () => this.#report()],
      ["repeat a report", () => this.#repeat()],
      ["break off an evaluation", () => this.#breakOff()],
      ["claim", () => this.#claim(1 + this.#below(4))],
      ["claim", () => this.#claim(1 + this.#below(4))],
      ["succeed", () => this.#succeed()],
      ["succeed", () => this.#succeed()],
      ["fail", () => this.#fail()],
      ["a late result", () => this.#late()],
      ["expire", () => this.#expire()],
      ["reattach", () => this.#reattach()],
      ["return", () => this.#return()],
      ["abort", () => this.#abort()],
      ["restart", () => this.#restart()],
      ["lose a path", () => this.#lose()],
      ["time passes", () => this.#tidy()],
    ] as const);
    await act();
    return what;
  }

  /** From here on everybody does his work: everything ends. */
  async drain(): Promise<void> {
    for (let round = 0; round < 200; round++) {
      while (this.#reports.length > 0) await this.#report();
      await this.#takeQueued();
      await this.#claim(1000);
      while (this.#running.length > 0) await this.#succeed();
      await this.#tidy();
      await checkInvariants(this.#world.db);
      if ((await this.#evaluations(true)).length === 0) return;
    }
    throw new Error("evaluations did not end");
  }

  async #evaluate(): Promise<void> {
    if ((await this.#evaluations(true)).length >= 4) return;
    const workerId = this.#pick(this.#workers);
    const evaluation = await startEvaluation(this.#world, workerId);
    await this.#walk(evaluation, workerId);
  }

  /** As a worker does: from some attributes down to what a cache has. */
  async #walk(evaluation: Evaluating, workerId: string): Promise<void> {
    const wanted = new Map<string, Set<string>>();
    const want = (need: string) => {
      const [name, output = "out"] = need.split(":") as [string, string?];
      wanted.set(name, (wanted.get(name) ?? new Set()).add(output));
    };
    for (let i = 0; i < 3; i++) want(`n${this.#below(NODES)}`);
    const present = await this.#present();
    const left: ParsedNode[] = [];
    // Dependencies have smaller numbers, so all that is wanted of a node is known when it is reached.
    for (const { name, outputs, needs } of this.#graph.toReversed()) {
      const outputsWanted = wanted.get(name);
      if (!outputsWanted) continue;
      const pruned = [...outputsWanted].every((output) => present.has(outputPathOf(name, output)));
      if (!pruned) for (const need of needs) want(need);
      left.unshift(node(name, { outputs, needs, pruned }));
    }
    this.#reports.push({ ...evaluation, workerId, left, last: [] });
  }

  async #report(): Promise<void> {
    const report = this.#pick(this.#reports);
    if (!report) return;
    if (report.left.length === 0) {
      this.#reports.splice(this.#reports.indexOf(report), 1);
      await finishEvaluation(this.#world, report);
      return;
    }
    report.last = report.left.splice(0, 1 + this.#below(6));
    try {
      const held = await ingest(this.#world, report, report.last);
      if (!held) this.#reports.splice(this.#reports.indexOf(report), 1);
    } catch (error) {
      if (!(error instanceof DomainError) || error.code !== "conflict") throw error;
      await this.#breakOff(report, "permanent");
    }
  }

  async #repeat(): Promise<void> {
    const report = this.#pick(this.#reports);
    if (!report || report.last.length === 0) return;
    try {
      await ingest(this.#world, report, report.last);
    } catch (error) {
      if (!(error instanceof DomainError) || error.code !== "conflict") throw error;
    }
  }

  async #breakOff(
    report: Report | undefined = this.#pick(this.#reports),
    failure: FailureClass = this.#pick(["aborted", "permanent"] as const),
  ): Promise<void> {
    if (!report) return;
    this.#reports.splice(this.#reports.indexOf(report), 1);
    const result = { kind: "evaluation", status: "failed", failure: { class: failure, message: failure } } as const;
    await endEvaluationAttempt(this.#world.deps, report.attemptId, result, newId());
    await this.#takeQueued();
  }

  async #takeQueued(): Promise<void> {
    const workerId = this.#pick(this.#workers);
    for (const [id, attemptId] of await takeEvaluations(this.#world, workerId)) {
      await this.#walk({ id, attemptId }, workerId);
    }
  }

  async #claim(limit: number): Promise<void> {
    const workerId = this.#pick(this.#workers);
    const builds = await claim(this.#world, { workerId, limit });
    for (const name of [...builds.keys()].sort()) {
      this.#running.push({ ...(builds.get(name) as AssignedBuild), workerId });
    }
  }

  /** As far as it can: inputs may have got lost. */
  async #succeed(): Promise<void> {
    const build = this.#takeRunning();
    if (!build) return;
    const present = await this.#present();
    if (build.inputs.every((path) => present.has(path))) await succeed(this.#world, build);
    else await fail(this.#world, build, "inputs_unavailable");
  }

  async #fail(): Promise<void> {
    const build = this.#takeRunning();
    if (build) await fail(this.#world, build, this.#pick(FAILURES));
  }

  async #late(): Promise<void> {
    const build = this.#pick(this.#ended);
    if (!build) return;
    expect(await fail(this.#world, build, "permanent")).toBe(false);
    expect(await succeed(this.#world, build)).toBe(false);
  }

  async #expire(): Promise<void> {
    const attempts = [...this.#running, ...this.#reports].filter(() => this.#below(2) === 0);
    const ids = new Set(attempts.map(({ attemptId }) => attemptId));
    await passTime(this.#world, [...ids]);
    await expireLeases(this.#world.deps);
    this.#forget(ids);
    await this.#takeQueued();
  }

  async #reattach(): Promise<void> {
    const workerId = this.#pick(this.#workers);
    const own = [...this.#running, ...this.#reports].filter((attempt) => attempt.workerId === workerId);
    const named = own.map(({ attemptId }) => attemptId).filter(() => this.#below(2) === 0);
    const held = new Set(
      (await reattachWorker(this.#world.deps, provenWorker(this.#world, workerId), named)).map(({ id }) => id),
    );
    this.#forget(new Set(own.map(({ attemptId }) => attemptId).filter((id) => !held.has(id))));
    await this.#takeQueued();
  }

  async #return(): Promise<void> {
    const build = this.#takeRunning();
    if (build)
      await returnAttempt(this.#world.deps, provenWorker(this.#world, build.workerId), build.attemptId, "no room");
  }

  async #abort(): Promise<void> {
    if (this.#below(3) > 0) return;
    const id = this.#pick(await this.#evaluations(true));
    if (!id) return;
    this.#world.notified.length = 0;
    await abortEvaluation(this.#world.deps, id);
    const told = this.#world.notified.filter((line) => line.startsWith("abort "));
    this.#forget(new Set(told.map((line) => line.slice("abort ".length))));
  }

  async #restart(): Promise<void> {
    const id = this.#pick(await this.#evaluations(false));
    if (!id || (await this.#evaluations(true)).length >= 4) return;
    try {
      await restartFailed(this.#world.deps, id, null);
    } catch (error) {
      if (!(error instanceof DomainError) || !["bad_request", "conflict"].includes(error.code)) throw error;
    }
  }

  async #lose(): Promise<void> {
    const { name, outputs } = this.#pick(this.#graph);
    await losePath(this.#world.db, outputPathOf(name, this.#pick(outputs)));
  }

  async #tidy(): Promise<void> {
    await passTime(this.#world);
    await tidyTransitions(this.#world.deps);
  }

  async #present(): Promise<ReadonlySet<string>> {
    const paths = this.#graph.flatMap(({ name, outputs }) => outputs.map((output) => outputPathOf(name, output)));
    const full = paths.map((path) => parseStorePathBaseName(path) as StorePath);
    const present = await availablePaths(this.#world.db, this.#world.organizationId, full);
    return new Set(Array.from(present.keys(), (path) => path.slice("/nix/store/".length)));
  }

  async #evaluations(active: boolean): Promise<string[]> {
    const rows = await this.#world.db.selectFrom("evaluation").select(["id", "status"]).orderBy("ordinal").execute();
    const isActive = (status: number) => ACTIVE_EVALUATION.includes(status as EvaluationStatus);
    return rows.filter(({ status }) => isActive(status) === active).map(({ id }) => id);
  }

  #takeRunning(): Running | undefined {
    const build = this.#pick(this.#running);
    if (build) this.#forget(new Set([build.attemptId]));
    return build;
  }

  #forget(ids: ReadonlySet<string>): void {
    this.#ended.push(...this.#running.filter(({ attemptId }) => ids.has(attemptId)));
    this.#running = this.#running.filter(({ attemptId }) => !ids.has(attemptId));
    this.#reports = this.#reports.filter(({ attemptId }) => !ids.has(attemptId));
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #pick<T extends readonly unknown[]>(items: T): T[number] {
    return items[this.#below(items.length)];
  }
}

/** Mulberry32: the same numbers for the same seed. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Rows are locked in the order of their ids: those follow from the seed too. */
function bytesOf(random: () => number): RandomBytes {
  return (bytes) => bytes.map(() => Math.floor(random() * 256));
}

function countingClock(): Clock {
  let now = 0;
  return { ...systemClock, now: () => now++ };
}

// A failure says its seed: GRADIENT_TEST_SEED=<seed> replays it.
test(`whatever happens, the invariants hold after each of ${STEPS} steps, and in the end everything ends`, async () => {
  const seed = Number(process.env.GRADIENT_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  await using made = await withWorld();
  const random = seeded(seed);
  const world = { ...made, deps: { ...made.deps, clock: countingClock(), random: bytesOf(random) } };
  const walk = new Walk(world, random);
  const steps: string[] = [];
  try {
    for (let i = 0; i < STEPS; i++) {
      steps.push("(under way)");
      steps[i] = await walk.step();
      await checkInvariants(world.db);
    }
    await walk.drain();
  } catch (error) {
    const last = steps.slice(-8).join(", ");
    throw new Error(`seed ${seed}, after ${steps.length} steps (… ${last}): ${(error as Error).message}`, {
      cause: error,
    });
  }
});
