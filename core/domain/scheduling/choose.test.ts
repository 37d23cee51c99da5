import { expect, test } from "vitest";
import { type Candidate, chooseBuilds, type FreeWorker } from "./choose.ts";
import type { JobFacts } from "./facts.ts";

const JOB: JobFacts = {
  priority: 0,
  waitedMs: 0,
  dependents: 0,
  expectedMs: null,
  expectedMemoryMb: null,
  preferLocal: false,
  requiredFeatures: 0,
  inputBytes: 0,
};

function candidate(id: string, job: Partial<JobFacts> = {}, rest: Partial<Candidate> = {}): Candidate {
  return {
    id,
    organizationId: "red",
    system: "x86_64-linux",
    requiredFeatures: [],
    job: { ...JOB, ...job },
    bytesAt: new Map(),
    failedWorkers: [],
    ...rest,
  };
}

function worker(workerId: string, places: number, rest: Partial<FreeWorker> = {}): FreeWorker {
  return {
    workerId,
    key: workerId,
    draining: false,
    grants: ["red", "blue"].map((organizationId) => ({ organizationId, fetch: true, eval: true, build: true })),
    groups: [{ architectures: ["x86_64-linux"], systemFeatures: [], places }],
    placesAll: [places],
    placesIdle: [places],
    evaluationPlaces: 1,
    freeMemoryMb: null,
    ...rest,
  };
}

const NONE = new Map<string, number>();
const ids = (choices: readonly { readonly buildId: string }[]) => choices.map(({ buildId }) => buildId);

test("the best total goes first, and equal ones go by id", () => {
  const ready = [candidate("c"), candidate("b"), candidate("a", { dependents: 3 }), candidate("d", { priority: 1 })];
  expect(ids(chooseBuilds(ready, [worker("w", 3)], NONE))).toEqual(["d", "a", "b"]);
});

test("what was put first gives way to what has waited long enough", () => {
  const first = candidate("first", { priority: 2 });
  const waits = (waitedMs: number) => candidate("waits", { waitedMs });
  expect(ids(chooseBuilds([first, waits(1_900_000)], [worker("w", 1)], NONE))).toEqual(["first"]);
  expect(ids(chooseBuilds([first, waits(2_100_000)], [worker("w", 1)], NONE))).toEqual(["waits"]);
});

test("a place stays free only when no candidate may run there", () => {
  const arm = candidate("arm", { priority: 10 }, { system: "aarch64-linux" });
  const heavy = candidate("heavy", { expectedMemoryMb: 1e6, priority: -10 }, { failedWorkers: ["w"] });
  const choices = chooseBuilds([arm, heavy], [worker("w", 5, { freeMemoryMb: 1 })], new Map([["red", 1_000]]));
  expect(ids(choices)).toEqual(["heavy"]);
});

test("organizations that wait share the places, whatever one of them puts first", () => {
  const red = Array.from({ length: 40 }, (_, i) => candidate(`red-${i}`, { priority: 10 }));
  const blue = Array.from({ length: 40 }, (_, i) => candidate(`blue-${i}`, {}, { organizationId: "blue" }));
  const count = (choices: readonly { buildId: string }[]) => ids(choices).filter((id) => id.startsWith("blue")).length;
  expect(count(chooseBuilds([...red, ...blue], [worker("w", 20)], NONE))).toBe(5);
  const equal = red.map(({ id }) => candidate(id));
  expect(count(chooseBuilds([...equal, ...blue], [worker("w", 20)], NONE))).toBe(10);
  // Red runs much already: blue catches up first.
  expect(count(chooseBuilds([...equal, ...blue], [worker("w", 20)], new Map([["red", 20]])))).toBe(20);
});

test("a lone organization gets every place", () => {
  const red = Array.from({ length: 9 }, (_, i) => candidate(`${i}`));
  expect(chooseBuilds(red, [worker("w", 9)], new Map([["red", 90]]))).toHaveLength(9);
});

test("a build goes to where its inputs are, unless that worker is busy and they are small", () => {
  const GIB = 1024 ** 3;
  const made = (bytes: number) => candidate("a", { inputBytes: bytes }, { bytesAt: new Map([["here", bytes]]) });
  const workerOf = (build: Candidate, used: number) => {
    const here = { ...worker("here", 16 - used), placesAll: [16] };
    return chooseBuilds([build], [worker("aaa", 16), here], NONE)[0]?.workerId;
  };
  expect(workerOf(made(1_000), 1)).toBe("here");
  expect(workerOf(made(1_000), 8)).toBe("aaa");
  expect(workerOf(made(GIB), 15)).toBe("here");
});

test("a failed build goes to another worker, and special machines are left for what needs them", () => {
  const special = worker("a", 1, {
    groups: [{ architectures: ["x86_64-linux"], systemFeatures: ["kvm"], places: 1 }],
  });
  const place = (build: Candidate) => chooseBuilds([build], [special, worker("b", 1)], NONE)[0]?.workerId;
  expect(place(candidate("plain"))).toBe("b");
  expect(place(candidate("failed", {}, { failedWorkers: ["b"] }))).toBe("a");
  expect(place(candidate("kvm", { requiredFeatures: 1 }, { requiredFeatures: ["kvm"] }))).toBe("a");
});

test("memory that a chosen build will need counts for the next", () => {
  const heavy = (id: string) => candidate(id, { expectedMemoryMb: 6_000 });
  const workers = [worker("a", 4, { freeMemoryMb: 8_000 }), worker("b", 4, { freeMemoryMb: 8_000 })];
  const choices = chooseBuilds([heavy("1"), heavy("2")], workers, NONE);
  expect(choices.map(({ workerId }) => workerId)).toEqual(["a", "b"]);
});

test("places of several groups are filled one by one and never beyond what is free", () => {
  const groups = [
    { architectures: ["x86_64-linux"], systemFeatures: [], places: 2 },
    { architectures: ["aarch64-linux"], systemFeatures: [], places: 1 },
  ];
  const relay = worker("relay", 0, { groups, placesAll: [2, 1], placesIdle: [2, 1] });
  const x86 = Array.from({ length: 5 }, (_, i) => candidate(`x-${i}`));
  const arm = Array.from({ length: 5 }, (_, i) => candidate(`y-${i}`, {}, { system: "aarch64-linux" }));
  const choices = chooseBuilds([...x86, ...arm], [relay], NONE);
  expect(choices.map(({ buildId, group }) => [buildId, group])).toEqual([
    ["x-0", 0],
    ["x-1", 0],
    ["y-0", 1],
  ]);
});

test("the breakdown adds up and names the rules that counted", () => {
  const build = candidate("a", { waitedMs: 12_340, dependents: 2, priority: 1 }, { failedWorkers: ["w"] });
  const [choice] = chooseBuilds([build], [worker("w", 2, { placesAll: [4] })], new Map([["blue", 1]]));
  expect(choice?.score).toEqual({
    total: 1_000 + 12.3 + 8 - 300 - 20,
    rules: { priority: 1_000, waiting: 12.3, dependents: 8, failed_here: -300, load: -20 },
  });
});

test("builds wait at a busy worker only when no other has a place free", () => {
  const ready = ["a", "b", "c", "d"].map((id) => candidate(id));
  // It has asked for more than its two places: two builds may wait there.
  const asksAhead = worker("asks-ahead", 4, { placesAll: [2], placesIdle: [2] });
  const workersOf = (count: number) =>
    chooseBuilds(ready.slice(0, count), [asksAhead, worker("other", 1)], NONE)
      .map(({ workerId }) => workerId)
      .sort();
  expect(workersOf(3)).toEqual(["asks-ahead", "asks-ahead", "other"]);
  expect(workersOf(4)).toEqual(["asks-ahead", "asks-ahead", "asks-ahead", "other"]);

  const busy = worker("busy", 4, { placesAll: [2], placesIdle: [0] });
  expect(chooseBuilds(ready.slice(0, 1), [busy, worker("other", 1)], NONE)[0]?.workerId).toBe("other");
});
