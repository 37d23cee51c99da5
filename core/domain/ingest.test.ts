import { expect, test } from "vitest";
import { decideIngest, findBatchFault, findLostOutput, type IngestNode, type KnownBuild } from "./ingest.ts";
import { BuildStatus } from "./states.ts";

function node(drvPath: string, needs: readonly string[] = [], rest: Partial<IngestNode> = {}): IngestNode {
  const dependencies = needs.map((need) => {
    const [path = "", output = "out"] = need.split(":");
    return { drvPath: path, outputs: [output] };
  });
  return { drvPath, pruned: false, unsupported: null, outputs: ["out"], present: new Set(), dependencies, ...rest };
}

function known(status: BuildStatus, available: readonly string[] = [], outputs = ["out"]): KnownBuild {
  const map = new Map(outputs.map((output) => [output, available.includes(output)]));
  return { status, deterministicFailure: false, available: map };
}

function states(nodes: readonly IngestNode[], before: Readonly<Record<string, KnownBuild>> = {}) {
  const decisions = decideIngest(nodes, new Map(Object.entries(before)));
  return Object.fromEntries(decisions.map(({ drvPath, status }) => [drvPath, status]));
}

test("a leaf is ready, and what needs something that is not there waits", () => {
  expect(states([node("a"), node("b", ["a"])])).toEqual({ a: BuildStatus.Queued, b: BuildStatus.Created });
});

test("what a cache has is substituted, with the outputs that are there and no others", () => {
  const pruned = node("a", [], { pruned: true, outputs: ["dev", "out"], present: new Set(["out"]) });
  const [a, byOut, byDev] = decideIngest([pruned, node("b", ["a"]), node("c", ["a:dev"])], new Map());
  expect(a).toMatchObject({ status: BuildStatus.Substituted, changed: true });
  expect(Object.fromEntries(a?.available ?? [])).toEqual({ dev: false, out: true });
  expect(byOut?.status).toBe(BuildStatus.Queued);
  expect(byDev?.status).toBe(BuildStatus.Created);
});

test("what is under way or done stays as it is", () => {
  for (const status of [0, 1, 2, 8] as const) {
    expect(decideIngest([node("a")], new Map([["a", known(status)]]))[0]).toMatchObject({ status, changed: false });
  }
  for (const status of [3, 7] as const) {
    const before = new Map([["a", known(status, ["out"])]]);
    expect(decideIngest([node("a")], before)[0]).toMatchObject({ status, changed: false });
  }
});

test("a build that is done and lost an output is opened; the outputs it still has stay available", () => {
  const before = new Map([["a", known(BuildStatus.Completed, ["out"], ["dev", "out"])]]);
  const a = node("a", [], { outputs: ["dev", "out"], present: new Set(["out"]) });
  const decisions = decideIngest([a, node("b", ["a"]), node("c", ["a:dev"])], before);
  expect(decisions.map(({ status }) => status)).toEqual([BuildStatus.Queued, BuildStatus.Queued, BuildStatus.Created]);
});

test("failed and aborted builds are opened, except what its builder failed by itself and what waits for that", () => {
  for (const status of [4, 5, 6, 9] as const) {
    expect(states([node("a"), node("b", ["a"])], { a: known(status), b: known(6) })).toEqual({ a: 1, b: 0 });
  }
  const deterministic = { ...known(BuildStatus.FailedPermanent), deterministicFailure: true };
  expect(states([node("a"), node("b", ["a"])], { a: deterministic, b: known(5) })).toEqual({ a: 4, b: 6 });
});

test("a failed dependency whose needed output is there fails nobody", () => {
  const deterministic = known(BuildStatus.FailedPermanent, ["out"], ["dev", "out"]);
  const before = { a: { ...deterministic, deterministicFailure: true } };
  expect(states([node("b", ["a"]), node("c", ["a:dev"])], before)).toEqual({ b: 1, c: 6 });
});

test("what no worker can build fails deterministically", () => {
  const [odd] = decideIngest([node("odd", [], { unsupported: "impure" })], new Map());
  expect(odd).toMatchObject({ status: BuildStatus.FailedPermanent, deterministicFailure: true });
});

test("an open build that a cache has is substituted only as a whole, and never while it runs", () => {
  const whole = node("a", [], { pruned: true, present: new Set(["out"]) });
  const part = node("a", [], { pruned: true, outputs: ["dev", "out"], present: new Set(["out"]) });
  for (const status of [0, 1, 8] as const) {
    expect(states([whole], { a: known(status) })).toEqual({ a: BuildStatus.Substituted });
    expect(states([part], { a: known(status, [], ["dev", "out"]) })).toEqual({ a: status });
  }
  expect(states([whole], { a: known(BuildStatus.Building) })).toEqual({ a: BuildStatus.Building });
});

test("a fault names the derivation: twice, before its dependency, or an output that nobody makes", () => {
  expect(findBatchFault([node("a"), node("b", ["a"])], new Map())).toBeNull();
  expect(findBatchFault([node("b", ["a"])], new Map([["a", known(1)]]))).toBeNull();
  expect(findBatchFault([node("a"), node("a")], new Map())).toMatch(/^a comes twice/);
  expect(findBatchFault([node("b", ["a"]), node("a")], new Map([["a", known(1)]]))).toMatch(/^a is a dependency of b/);
  expect(findBatchFault([node("a"), node("b", ["a:doc"])], new Map())).toMatch(/^b needs the output doc of a/);
  expect(findBatchFault([node("b", ["a:doc"])], new Map([["a", known(1)]]))).toMatch(/^b needs the output doc of a/);
});

test("an output that nothing is going to make is found", () => {
  const before = new Map([["a", known(BuildStatus.Substituted, ["out"], ["dev", "out"])]]);
  const lost = (nodes: readonly IngestNode[]) => findLostOutput(nodes, decideIngest(nodes, before), before);
  expect(lost([node("b", ["a"])])).toBeNull();
  expect(lost([node("b", ["a:dev"])])).toMatch(/^a: dev is no longer available/);
  expect(lost([node("a", [], { outputs: ["dev", "out"] }), node("b", ["a:dev"])])).toBeNull();
});
