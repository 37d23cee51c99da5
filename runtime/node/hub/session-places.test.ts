import { afterEach, expect, test } from "vitest";
import { systemClock } from "#core/lib/clock.ts";
import { socketPair } from "#core/protocol/memory-socket.ts";
import { HUB_LIMITS, type HubBench, withHub } from "#test/support/hub.ts";

let bench: HubBench | null = null;

afterEach(async () => {
  await bench?.[Symbol.asyncDispose]();
  bench = null;
});

async function start(maxProtoConnections: number): Promise<HubBench> {
  bench = await withHub({ limits: { ...HUB_LIMITS, maxProtoConnections } });
  return bench;
}

test("strangers who prove nothing take no places of workers, and one address has only some of theirs", async () => {
  const { hub, registered } = await start(40);
  for (let i = 0; i < 32; i++) hub.accept(socketPair(systemClock)[0], { address: "203.0.113.7" });

  expect(hub.hasRoomFor("203.0.113.7")).toBe(false);
  expect(hub.hasRoomFor("203.0.113.8")).toBe(true);
  const worker = await registered();
  expect(worker.closed).toBeNull();
});

test("a worker has a place as soon as it has proved itself, and no more are let in than there are", async () => {
  const { hub, registered, worker, organizationId } = await start(2);
  const strangers = [1, 2].map(() => socketPair(systemClock)[0]);
  for (const socket of strangers) hub.accept(socket, { address: "203.0.113.7" });
  expect(hub.hasRoomFor("203.0.113.8")).toBe(false);
  for (const socket of strangers) socket.close(1000, "gone");
  await expect.poll(() => hub.hasRoomFor("203.0.113.8")).toBe(true);

  const first = await registered();
  const waiting = socketPair(systemClock)[0];
  hub.accept(waiting, { address: "203.0.113.7" });
  expect(hub.hasRoomFor("203.0.113.8"), "one worker and one stranger, of two places each").toBe(true);
  waiting.close(1000, "gone");
  await registered();
  expect(hub.hasRoomFor("203.0.113.8")).toBe(false);
  // It had begun before the places were taken.
  await expect(registered()).rejects.toThrow(/"code":503.*maxProtoConnections is 2/);
  const token = { [organizationId]: `token of ${first.workerId}` };
  await worker({ workerId: first.workerId, tokens: token }).register();
  await expect.poll(() => first.closed).toBe("a newer session of this worker has begun");
});
