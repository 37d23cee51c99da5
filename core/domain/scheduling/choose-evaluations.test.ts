import { expect, test } from "vitest";
import { chooseEvaluations } from "./choose-evaluations.ts";
import type { WorkerOffer } from "./eligibility.ts";

function worker(workerId: string, can: { readonly fetch?: boolean; readonly eval?: boolean }): WorkerOffer {
  const grants = [{ organizationId: "red", fetch: false, eval: false, build: false, ...can }];
  return { workerId, draining: false, grants, groups: [], evaluationPlaces: 1 };
}

const queued = (id: string, rest: { readonly fetched?: boolean; readonly trusted?: boolean } = {}) => ({
  id,
  organization_id: "red",
  fetched: false,
  trusted: true,
  ...rest,
});
const fetcher = worker("fetcher", { fetch: true });
const evaluator = worker("evaluator", { eval: true });
const both = worker("both", { fetch: true, eval: true });

function chosen(evaluations: readonly ReturnType<typeof queued>[], workers: readonly WorkerOffer[]) {
  return chooseEvaluations(evaluations, workers).map(({ evaluationId, part, worker: { workerId } }) =>
    [evaluationId, part, workerId].join(" "),
  );
}

test("one machine fetches and another evaluates what is fetched", () => {
  expect(chosen([queued("a")], [evaluator, fetcher])).toEqual(["a fetch fetcher"]);
  expect(chosen([queued("a", { fetched: true })], [fetcher, evaluator])).toEqual(["a eval evaluator"]);
  expect(chosen([queued("a")], [evaluator])).toEqual([]);
  expect(chosen([queued("a", { fetched: true })], [fetcher])).toEqual([]);
});

test("who can do both does both, and the others work ahead of it", () => {
  expect(chosen([queued("a")], [fetcher, evaluator, both])).toEqual(["a whole both"]);
  expect(chosen([queued("a"), queued("b")], [fetcher, evaluator, both])).toEqual(["a whole both", "b fetch fetcher"]);
  expect(chosen([queued("a", { fetched: true })], [both])).toEqual(["a eval both"]);
});

test("no worker gets two at a time, and nobody an untrusted one", () => {
  expect(chosen([queued("a"), queued("b")], [both])).toEqual(["a whole both"]);
  expect(chosen([queued("a", { trusted: false }), queued("b")], [both])).toEqual(["b whole both"]);
});
