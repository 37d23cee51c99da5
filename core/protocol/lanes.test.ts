import { expect, test } from "vitest";
import { systemClock } from "../lib/clock.ts";
import { Lanes } from "./lanes.ts";
import type { Socket } from "./socket.ts";

/** A socket that notes what it was given at a time, and takes it when it is let. */
function slowSocket() {
  const given: (readonly (string | Uint8Array)[])[] = [];
  const gates: (() => void)[] = [];
  const take = async (messages: readonly (string | Uint8Array)[]) => {
    given.push(messages);
    await new Promise<void>((resolve) => gates.push(resolve));
  };
  const socket: Socket = {
    send: (data) => take([data]),
    sendAll: take,
    close: () => {},
    onMessage: () => {},
    onClose: () => {},
  };
  const release = async () => {
    await expect.poll(() => gates.length).toBeGreaterThan(0);
    gates.shift()?.();
  };
  return { socket, given, release, lanes: new Lanes(socket, systemClock, () => {}) };
}

test("small messages leave together, control ones first, and a large frame leaves alone", async () => {
  const { given, release, lanes } = slowSocket();
  const large = new Uint8Array(64 * 1024);
  const small = new Uint8Array(10);
  lanes.control("alone");
  const sent = [lanes.bulk(small), lanes.bulk(large), lanes.bulk(small)];
  lanes.control("a");
  lanes.control("b");
  for (let times = 0; times < 2; times++) await release();
  await sent[0];
  lanes.control("c");
  for (let times = 0; times < 2; times++) await release();
  await Promise.all(sent);
  // What was given to the socket is not overtaken; everything else is.
  expect(given).toEqual([["alone"], ["a", "b", small], [large], ["c", small]]);
});
