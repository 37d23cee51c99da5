import fc from "fast-check";
import { expect, test } from "vitest";
import { type FailureGraph, findCauses } from "./failure-graph.ts";

/** Edges lead from higher numbers to lower ones. */
function graphOf(size: number, edges: readonly (readonly [number, number])[], causes: readonly number[]): FailureGraph {
  return {
    size,
    tops: new Map(Array.from({ length: size }, (_, node) => [`top-${node}`, node])),
    causes: causes.map((node) => ({ id: `cause-${node}`, node })),
    sources: edges.map(([source]) => source),
    targets: edges.map(([, target]) => target),
  };
}

/** The same by walking all ways. */
function walked(node: number, edges: readonly (readonly [number, number])[], causes: readonly number[]): Set<number> {
  const below = edges.filter(([source]) => source === node).flatMap(([, target]) => [...walked(target, edges, causes)]);
  return new Set([...below, ...(causes.includes(node) ? [causes.indexOf(node)] : [])]);
}

test("the causes of a build are those at the ends of all ways down from it", () => {
  const size = 12;
  const edge = fc
    .tuple(fc.integer({ min: 1, max: size - 1 }), fc.nat())
    .map(([source, target]) => [source, target % source] as const);
  const causes = fc.uniqueArray(fc.nat(size - 1), { minLength: 1 });
  fc.assert(
    fc.property(fc.array(edge, { maxLength: 25 }), causes, (edges, roots) => {
      const causesOf = findCauses(graphOf(size, edges, roots));
      for (let node = 0; node < size; node++) {
        expect(new Set(causesOf(`top-${node}`))).toEqual(walked(node, edges, roots));
      }
    }),
  );
});

test("a broken compiler below a hundred thousand builds is found for each of them", () => {
  const size = 100_000;
  const edges: [number, number][] = [];
  for (let node = 1; node < size; node++) edges.push([node, node - 1], [node, 0]);
  const causesOf = findCauses(graphOf(size, edges, [0]));
  expect([causesOf("top-99999"), causesOf("top-0"), causesOf("no such build")]).toEqual([[0], [0], []]);
});

test("more causes than a word has bits are told apart", () => {
  const causes = Array.from({ length: 70 }, (_, node) => node);
  const edges = causes.filter((node) => node % 3 === 0).map((node): [number, number] => [70, node]);
  expect(findCauses(graphOf(71, edges, causes))("top-70")).toEqual(causes.filter((node) => node % 3 === 0));
});
