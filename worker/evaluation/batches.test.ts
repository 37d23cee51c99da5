import { expect, test } from "vitest";
import type { StorePath } from "#core/nix/store-path.ts";
import { type GraphBatch, GraphBatches } from "./batches.ts";

function storePath(name: string): StorePath {
  return `/nix/store/${"0".repeat(32)}-${name}` as StorePath;
}

function record() {
  const events: string[] = [];
  const batches: GraphBatch[] = [];
  const sink = {
    sources: async (paths: readonly StorePath[]) =>
      void events.push(...paths.map((path) => `source ${path.slice(44)}`)),
    batch: async (batch: GraphBatch) => {
      events.push(`batch of ${batch.nodes.length}`);
      batches.push(batch);
    },
  };
  return { events, batches, graph: new GraphBatches(sink) };
}

function node(name: string, { bytes = 10, sources = [] as string[], pruned = false } = {}) {
  return { drvPath: storePath(name), aterm: new Uint8Array(bytes), pruned, inputSources: sources.map(storePath) };
}

test("a batch holds at most 500 nodes and 4 MiB, a larger node goes alone", async () => {
  const { events, graph } = record();
  for (let i = 0; i < 1_001; i++) await graph.add(node(`small-${i}`));
  await graph.flush();
  for (const name of ["a", "b", "c"]) await graph.add(node(name, { bytes: 2 * 1024 * 1024 }));
  await graph.add(node("huge", { bytes: 5 * 1024 * 1024 }));
  await graph.finish();

  expect(events).toEqual(["batch of 500", "batch of 500", "batch of 1", "batch of 2", "batch of 1", "batch of 1"]);
});

test("sources come before the batch that names them, once; those of pruned nodes do not come", async () => {
  const { events, graph } = record();
  await graph.add(node("a", { sources: ["one", "two"] }));
  await graph.add(node("b", { sources: ["never"], pruned: true }));
  await graph.flush();
  await graph.add(node("c", { sources: ["two", "three"] }));
  await graph.finish();

  expect(events).toEqual(["source one", "source two", "batch of 2", "source three", "batch of 1"]);
});

test("the last batch is sent even when it is empty, an empty one before it is not", async () => {
  const { batches, graph } = record();
  await graph.flush();
  graph.addEntryPoints([{ attribute: ["a"], drvPath: storePath("a") }]);
  await graph.flush();
  await graph.finish();

  expect(batches.map(({ entryPoints, last }) => [entryPoints.length, last])).toEqual([
    [1, false],
    [0, true],
  ]);
});
