import { expect, test } from "vitest";
import {
  type BuildGroup,
  type BuildNeed,
  canEvaluate,
  findEvaluationGroup,
  isMet,
  refuseBuild,
  type WorkerOffer,
} from "./eligibility.ts";

const need: BuildNeed = { organizationId: "red", system: "x86_64-linux", requiredFeatures: ["kvm"] };
const group: BuildGroup = { architectures: ["x86_64-linux"], systemFeatures: ["kvm", "big-parallel"], places: 1 };
const worker: WorkerOffer = {
  workerId: "w",
  draining: false,
  grants: [{ organizationId: "red", fetch: true, eval: true, build: true }],
  groups: [group],
  evaluationPlaces: 1,
};

test("a group runs what its organization, architecture and features allow", () => {
  expect(refuseBuild(need, worker, group)).toBeNull();
  expect(refuseBuild({ ...need, organizationId: "blue" }, worker, group)).toBe("organization");
  expect(refuseBuild({ ...need, system: "aarch64-linux" }, worker, group)).toBe("architecture");
  expect(refuseBuild({ ...need, requiredFeatures: ["kvm", "gpu"] }, worker, group)).toBe("features");
});

test("a worker that drains, may not build, or has no place is given nothing", () => {
  expect(refuseBuild(need, { ...worker, draining: true }, group)).toBe("draining");
  const grants = [{ organizationId: "red", fetch: true, eval: true, build: false }];
  expect(refuseBuild(need, { ...worker, grants }, group)).toBe("capability");
  expect(refuseBuild(need, worker, { ...group, places: 0 })).toBe("places");
});

test("builtin runs on every architecture, but not without its features", () => {
  const builtin = { ...need, system: "builtin", requiredFeatures: [] };
  expect(refuseBuild(builtin, worker, { ...group, architectures: [] })).toBeNull();
  expect(refuseBuild({ ...builtin, requiredFeatures: ["gpu"] }, worker, group)).toBe("features");
});

test("what two groups have together is no group", () => {
  const x86 = { ...group, systemFeatures: [] };
  const arm = { ...group, architectures: ["aarch64-linux"] };
  expect(isMet(need, [{ ...worker, groups: [x86, arm] }])).toBe(false);
  expect(isMet(need, [{ ...worker, groups: [x86, arm, group] }])).toBe(true);
});

test("a worker evaluates as a whole only what it may fetch and evaluate", () => {
  const grants = [{ organizationId: "red", fetch: false, eval: true, build: true }];
  const evalOnly = { ...worker, grants };
  expect(["whole", "fetch", "eval"].map((part) => canEvaluate("red", part as "whole", worker))).toEqual([
    true,
    true,
    true,
  ]);
  expect(["whole", "fetch", "eval"].map((part) => canEvaluate("red", part as "whole", evalOnly))).toEqual([
    false,
    false,
    true,
  ]);
  expect(canEvaluate("blue", "eval", worker)).toBe(false);
  expect(canEvaluate("red", "whole", { ...worker, evaluationPlaces: 0 })).toBe(false);
  expect(canEvaluate("red", "whole", { ...worker, draining: true })).toBe(false);
});

test("places that are for some organizations run nothing of others", () => {
  const own = { ...group, organizationIds: ["blue"] };
  expect(refuseBuild(need, worker, own)).toBe("organization");
  expect(refuseBuild(need, worker, { ...group, organizationIds: ["blue", "red"] })).toBeNull();
  expect(isMet(need, [{ ...worker, groups: [own] }])).toBe(false);
});

test("of a relay, a machine that fetches and one that evaluates are not one that does both", () => {
  const grants = [
    { organizationId: "red", fetch: true, eval: true, build: true },
    { organizationId: "blue", fetch: true, eval: true, build: true },
  ];
  const fetches = { fetch: true, eval: false, places: 1 };
  const evaluates = { fetch: false, eval: true, places: 1, organizationIds: ["red"] };
  const relay = { ...worker, grants, evaluationPlaces: 2, evaluationGroups: [fetches, evaluates] };
  const groupOf = (organizationId: string, part: "fetch" | "eval" | "whole") =>
    findEvaluationGroup(organizationId, part, relay);
  expect(["whole", "fetch", "eval"].map((part) => groupOf("red", part as "whole"))).toEqual([null, 0, 1]);
  expect(groupOf("blue", "eval")).toBeNull();
  expect(canEvaluate("red", "eval", { ...relay, evaluationGroups: [fetches, { ...evaluates, places: 0 }] })).toBe(
    false,
  );
});
