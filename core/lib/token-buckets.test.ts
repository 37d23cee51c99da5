import { expect, test } from "vitest";
import { ManualClock } from "#test/support/manual-clock.ts";
import { TokenBuckets } from "./token-buckets.ts";

const SHAPE = { refillMs: 100, burst: 3 };

test("a full bucket gives its burst at once, and then one token for each interval", async () => {
  const clock = new ManualClock();
  const buckets = new TokenBuckets(clock, SHAPE);

  expect([1, 2, 3, 4].map(() => buckets.take("a"))).toEqual([0, 0, 0, 100]);
  await clock.advance(99);
  expect(buckets.take("a")).toBe(1);
  await clock.advance(1);
  expect([buckets.take("a"), buckets.take("a")]).toEqual([0, 100]);
  await clock.advance(250);
  expect([1, 2, 3].map(() => buckets.take("a"))).toEqual([0, 0, 50]);
});

test("one that is asked for too early costs nothing, however often it is asked for", async () => {
  const clock = new ManualClock();
  const buckets = new TokenBuckets(clock, SHAPE);
  for (let i = 0; i < 1_000; i++) buckets.take("a");

  await clock.advance(100);

  expect(buckets.take("a")).toBe(0);
});

test("with patience tokens are given ahead of their time, one after the other", () => {
  const buckets = new TokenBuckets(new ManualClock(), SHAPE);

  expect([1, 2, 3, 4, 5, 6, 7].map(() => buckets.take("a", 200))).toEqual([0, 0, 0, 100, 200, 300, 300]);
});

test("everybody has a bucket of their own", () => {
  const buckets = new TokenBuckets(new ManualClock(), SHAPE);
  for (let i = 0; i < 4; i++) buckets.take("a");

  expect([buckets.take("a"), buckets.take("b")]).toEqual([100, 0]);
});

test("a flood of others is held in a bounded memory, and whoever goes on asking stays limited", () => {
  const buckets = new TokenBuckets(new ManualClock(), SHAPE, 1_000);
  for (let i = 0; i < 4; i++) buckets.take("steady");

  let forgotten = 0;
  for (let i = 0; i < 100_000; i++) {
    buckets.take(`other ${i}`);
    if (i % 400 === 0 && buckets.take("steady") === 0) forgotten++;
  }

  expect(buckets.size).toBeLessThanOrEqual(1_000);
  expect(forgotten).toBe(0);
});
