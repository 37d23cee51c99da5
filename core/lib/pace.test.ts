import { expect, test } from "vitest";
import { ManualClock } from "#test/support/manual-clock.ts";
import { Pace } from "./pace.ts";

test("a reader gets no more than the bytes of each second, however long it rested before", async () => {
  const clock = new ManualClock();
  const pace = new Pace(clock, 1_000);
  await clock.advance(60_000);
  let taken = 0;
  const reading = (async () => {
    for (let part = 0; part < 10; part++) {
      await pace.take(500);
      taken += 500;
    }
  })();
  await clock.advance(999);
  expect(taken).toBe(500);
  await clock.advance(2_001);
  expect(taken).toBe(3_000);
  await clock.advance(10_000);
  await reading;
});

test("without a limit nothing waits, and who is stopped waits no longer", async () => {
  const clock = new ManualClock();
  await new Pace(clock, Number.POSITIVE_INFINITY).take(2 ** 40);
  const stopping = new AbortController();
  const waiting = new Pace(clock, 1).take(1_000_000, stopping.signal);
  stopping.abort();
  await waiting;
  expect(clock.pending).toBe(0);
});
