import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { quietLogger } from "#test/support/quiet-logger.ts";
import { type LogLine, recordingLogger } from "#test/support/recording-logger.ts";
import { createHttpServer } from "./http-server.ts";
import { boundConnections } from "./slow-clients.ts";

const TIMEOUTS = { headersMs: 1_500, idleMs: 1_000, stalledMs: 2_000 };
const PIECE = new Uint8Array(1024 * 1024);

/** What is answered to each path. */
const answers = new Map<string, () => Response | Promise<Response>>();
const sockets: Socket[] = [];
let server: Server;
beforeAll(async () => {
  const fetch = async ({ url }: Request) => await (answers.get(new URL(url).pathname) ?? plain)();
  server = createHttpServer({ fetch, fromMemory: () => null }, quietLogger, TIMEOUTS);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
afterAll(() => {
  for (const socket of sockets) socket.destroy();
  server.closeAllConnections();
  server.close();
});

function plain(): Response {
  return new Response("answer");
}

/** A client of our own pace. `received` holds all that came. */
function open(to: Server = server): { socket: Socket; received: () => string; ended: Promise<unknown> } {
  const socket = connect((to.address() as AddressInfo).port, "127.0.0.1");
  let text = "";
  socket.on("error", () => {});
  socket.on("data", (data) => {
    text += data.toString("latin1");
  });
  sockets.push(socket);
  return { socket, received: () => text, ended: once(socket, "close") };
}

/** A body that never ends, and whether somebody still wants it. */
function endless(): { response: Response; cancelled: () => boolean } {
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(PIECE),
    cancel: () => {
      cancelled = true;
    },
  });
  return { response: new Response(body), cancelled: () => cancelled };
}

test.concurrent("a client that takes nothing of its answer loses the connection, and no more is made", async () => {
  const { response, cancelled } = endless();
  answers.set("/endless", () => response);
  const { socket } = open();
  socket.pause();
  socket.write("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");

  await expect.poll(cancelled, { timeout: 20_000 }).toBe(true);
});

test.concurrent("an answer that takes longer to make than a client may stall is waited for", async () => {
  answers.set("/late", async () => {
    await sleep(2 * TIMEOUTS.stalledMs);
    return new Response("late");
  });
  const { socket, received } = open();
  socket.write("GET /late HTTP/1.1\r\nHost: x\r\n\r\n");

  await expect.poll(received, { timeout: 20_000 }).toContain("late");
});

test.concurrent("a stream in which nothing happens for a while goes on", async () => {
  answers.set("/quiet", () => {
    const body = new ReadableStream<Uint8Array>({
      async start(controller) {
        controller.enqueue(new TextEncoder().encode("first"));
        await sleep(2 * TIMEOUTS.stalledMs);
        controller.enqueue(new TextEncoder().encode("second"));
        controller.close();
      },
    });
    return new Response(body);
  });
  const { socket, received } = open();
  socket.write("GET /quiet HTTP/1.1\r\nHost: x\r\n\r\n");

  await expect.poll(received, { timeout: 20_000 }).toContain("second");
});

test.concurrent("a head that does not come to its end is answered 408 in the envelope", async () => {
  const { socket, received, ended } = open();
  socket.write("GET / HTTP/1.1\r\nHost: x\r\n");

  await ended;
  expect(received()).toMatch(/^HTTP\/1\.1 408 .*"error":true,"code":"bad_request"/s);
});

test.concurrent("a connection on which nothing is asked ends, before and after an answer", async () => {
  const silent = open();
  const idle = open();
  idle.socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");

  await Promise.all([silent.ended, idle.ended]);
  expect(idle.received()).toContain("answer");
});

test.concurrent("one connection more than are allowed is closed at once, and the operator is told once", async () => {
  const lines: LogLine[] = [];
  const bounded = createServer((_request, response) => void response.end("answer"));
  boundConnections(bounded, recordingLogger(lines), 2);
  bounded.listen(0, "127.0.0.1");
  await once(bounded, "listening");
  const kept = [open(bounded), open(bounded)];
  for (const { socket } of kept) await once(socket, "connect");

  await Promise.all([open(bounded).ended, open(bounded).ended]);
  kept[0]?.socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");

  await expect.poll(() => kept[0]?.received(), { timeout: 20_000 }).toContain("answer");
  expect(lines).toMatchObject([{ level: "warn", fields: { connectionsMax: 2 } }]);
  for (const { socket } of kept) socket.destroy();
  bounded.close();
});

test.concurrent("what is no HTTP is answered in the envelope, with the headers of every answer", async () => {
  const cases = [
    ["BREW /pot HTCPCP/1.0\r\n\r\n", 400],
    [`GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${"x".repeat(100_000)}\r\n\r\n`, 431],
  ] as const;
  for (const [sent, status] of cases) {
    const { socket, received, ended } = open();
    socket.write(sent);
    await ended;
    expect(received()).toMatch(new RegExp(`^HTTP/1.1 ${status} .*x-content-type-options: nosniff.*"error":true`, "s"));
  }
});
