import { setImmediate as nextTurn } from "node:timers/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { StorePath } from "#core/nix/store-path.ts";
import { inReferenceOrder, ReferenceCycleError } from "./reference-order.ts";

const path = (index: number) => `/nix/store/${String(index).padStart(32, "0")}-x` as StorePath;

test("every path runs once, after what it refers to, and never more than the limit at a time", async () => {
  const graph = fc.array(fc.array(fc.nat(30), { maxLength: 5 }), { minLength: 1, maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(graph, fc.integer({ min: 1, max: 4 }), async (rows, limit) => {
      // Larger indexes refer to smaller ones, to themselves, and to paths outside of the set.
      const edges = rows.map((targets, index) => targets.filter((target) => target <= index || target >= rows.length));
      const references = new Map(edges.map((targets, index) => [path(index), targets.map(path)]));
      const done = new Set<StorePath>();
      let running = 0;
      await inReferenceOrder(references, limit, async (one) => {
        expect(++running).toBeLessThanOrEqual(limit);
        for (const target of references.get(one) ?? []) {
          if (target !== one && references.has(target)) expect(done.has(target)).toBe(true);
        }
        await nextTurn();
        expect(done.has(one)).toBe(false);
        done.add(one);
        running--;
      });
      expect(done.size).toBe(rows.length);
    }),
    { numRuns: 50 },
  );
});

test("after a failure nothing more begins, and what runs is waited for", async () => {
  const references = new Map([0, 1, 2].map((index) => [path(index), index === 2 ? [path(0)] : []]));
  const ended: StorePath[] = [];
  const run = inReferenceOrder(references, 2, async (one) => {
    if (one === path(0)) throw new Error("broken");
    await nextTurn();
    ended.push(one);
  });
  await expect(run).rejects.toThrow("broken");
  expect(ended).toEqual([path(1)]);
});

test("nothing to do ends at once, and a circle is an error", async () => {
  await inReferenceOrder(new Map(), 1, () => Promise.reject(new Error("never")));
  const circle = new Map([
    [path(0), [path(1)]],
    [path(1), [path(0)]],
  ]);
  await expect(inReferenceOrder(circle, 2, async () => {})).rejects.toThrow(ReferenceCycleError);
});
