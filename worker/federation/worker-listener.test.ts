import { once } from "node:events";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { Socket } from "#core/protocol/socket.ts";
import { recordingLogger } from "#test/support/recording-logger.ts";
import { WorkerListener } from "./worker-listener.ts";

let listener: WorkerListener;
let hasRoom: boolean;
let accepted: Socket[];

beforeEach(async () => {
  [hasRoom, accepted] = [true, []];
  const relay = {
    get hasRoom() {
      return hasRoom;
    },
    accept: (socket: Socket) => void accepted.push(socket),
  };
  const where = { address: "127.0.0.1", port: 0, connectionsMax: 2 };
  listener = await WorkerListener.open({ ...where, relay, log: recordingLogger() });
});

afterEach(() => listener[Symbol.asyncDispose]());

async function refusalOf(path: string): Promise<[number | undefined, string | undefined]> {
  const socket = new WebSocket(`ws://127.0.0.1:${listener.port}${path}`);
  socket.on("error", () => {});
  const [, response] = await once(socket, "unexpected-response");
  return [response.statusCode, response.headers["retry-after"]];
}

test("a worker is let through on /proto, another path is not there", async () => {
  const socket = new WebSocket(`ws://127.0.0.1:${listener.port}/proto`);
  await once(socket, "open");
  await expect.poll(() => accepted.length).toBe(1);
  socket.terminate();
  expect(await refusalOf("/other")).toEqual([404, undefined]);
});

test("a relay without room says when to come again", async () => {
  hasRoom = false;
  expect(await refusalOf("/proto")).toEqual([503, "10"]);
});

test("a port that is taken is an error with advice", async () => {
  const relay = { hasRoom: true, accept: () => {} };
  const where = { address: "127.0.0.1", port: listener.port, connectionsMax: 2 };
  await expect(WorkerListener.open({ ...where, relay, log: recordingLogger() })).rejects.toThrow(
    /cannot listen on 127.0.0.1.*GRADIENT_WORKER_PORT/,
  );
});
