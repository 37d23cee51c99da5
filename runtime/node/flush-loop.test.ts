import { expect, test } from "vitest";
import { systemClock } from "#core/lib/clock.ts";
import type { FlushOptions } from "#core/services/cache-uses.ts";
import { newId, withCacheBench } from "#test/cache/support.ts";
import { keepFlushing } from "./flush-loop.ts";

test("a sweep waits for no pause of a flush: neither of its own nor of one that runs", async () => {
  await using bench = await withCacheBench();
  const { db, log, notifier } = bench.deps;
  const minutes: (() => void)[] = [];
  const clock = { ...systemClock, schedule: (_ms: number, action: () => void) => cancelled(action) };
  const cancelled = (action: () => void) => {
    minutes.push(action);
    return () => void minutes.splice(minutes.indexOf(action), 1);
  };
  const flushes: { options: FlushOptions; end: () => void }[] = [];
  const uses = {
    touch: () => {},
    flush: (options: FlushOptions = {}) => new Promise<void>((end) => void flushes.push({ options, end })),
  };
  const nothing = { flush: async () => {} };
  const hub = { db, notifier, clock, server: { id: newId() } };
  const front = { traffic: { ...nothing, sent: () => {} } };
  const stopping = new AbortController();
  const deps = { hub, uses, proofs: nothing, front } as unknown as Parameters<typeof keepFlushing>[0];
  const running = keepFlushing(deps, log, stopping.signal);
  const isHurried = (index: number) => flushes[index]?.options.hurry?.aborted;

  await expect.poll(() => minutes.length).toBe(1);
  minutes[0]?.();
  await expect.poll(() => flushes.length).toBe(1);
  expect(isHurried(0)).toBe(false);
  notifier.notify("uses", "all");
  await expect.poll(() => isHurried(0)).toBe(true);
  flushes[0]?.end();
  await expect.poll(() => flushes.length).toBe(2);
  expect(isHurried(1)).toBe(true);
  flushes[1]?.end();

  await expect.poll(() => minutes.length).toBe(1);
  minutes[0]?.();
  await expect.poll(() => flushes.length).toBe(3);
  expect(isHurried(2)).toBe(false);
  stopping.abort();
  expect(isHurried(2)).toBe(true);
  flushes[2]?.end();
  await expect.poll(() => flushes.length).toBe(4);
  expect(flushes[3]?.options.counts).toBe(true);
  flushes[3]?.end();
  await running;
});
