import { expect, test } from "vitest";
import { systemClock } from "#core/lib/clock.ts";
import { Places } from "./places.ts";

const LONG_MS = 60_000;
const timeout = () => new Error("waited too long");

test("who waits gets a place in the order of arrival", async () => {
  const places = new Places(1, systemClock);
  await places.take(LONG_MS, timeout);
  const order: string[] = [];
  const waiting = ["a", "b", "c"].map((name) => places.take(LONG_MS, timeout).then(() => order.push(name)));
  for (let i = 0; i < 3; i++) places.leave();
  await Promise.all(waiting);
  expect(order).toEqual(["a", "b", "c"]);
  expect(places.free).toBe(0);
});

test("a place never goes to who has given up", async () => {
  const places = new Places(1, systemClock);
  await places.take(LONG_MS, timeout);
  const abort = new AbortController();
  const aborted = places.take(LONG_MS, timeout, abort.signal);
  const patient = places.take(LONG_MS, timeout);

  abort.abort(new Error("no longer needed"));
  places.leave();

  await expect(aborted).rejects.toThrow("no longer needed");
  await patient;
  places.leave();
  expect(places.free).toBe(1);
});

test("waiting ends at its limit, and when the places are closed", async () => {
  const places = new Places(1, systemClock);
  await places.take(LONG_MS, timeout);
  await expect(places.take(5, timeout)).rejects.toThrow("waited too long");

  const late = places.take(LONG_MS, timeout);
  const closed = places.close(new Error("shutting down"));
  await expect(late).rejects.toThrow("shutting down");
  await expect(places.take(LONG_MS, timeout)).rejects.toThrow("shutting down");
  places.leave();
  await closed;
});
