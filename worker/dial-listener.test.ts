import { randomUUID } from "node:crypto";
import { connect, type Socket as TcpSocket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { recordingLogger } from "#test/support/recording-logger.ts";
import { DialListener } from "./dial-listener.ts";
import { parsePeers } from "./peers.ts";

let stack = new AsyncDisposableStack();

afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

async function listen(connectionsMax = 4) {
  const log = recordingLogger();
  const readPeers = async () => parsePeers("", "peers");
  const options = { address: "127.0.0.1", port: 0, connectionsMax, workerId: randomUUID(), readPeers, log };
  const listener = stack.use(await DialListener.open(options));
  return { listener, log, options };
}

function upgrade(port: number, path: string): Promise<{ readonly head: string; readonly socket: TcpSocket }> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    stack.defer(() => void socket.destroy());
    socket.on("error", () => {});
    socket.once("data", (data) => resolve({ head: String(data), socket }));
    const key = "dGhlIHNhbXBsZSBub25jZQ==";
    const upgrade = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"];
    const headers = ["Host: x", ...upgrade, `Sec-WebSocket-Key: ${key}`];
    socket.write([`GET ${path} HTTP/1.1`, ...headers, "", ""].join("\r\n"));
  });
}

test("a worker that listens answers nothing but its own path, and no more connections than it may have", async () => {
  const { listener } = await listen(2);
  expect((await fetch(`http://127.0.0.1:${listener.port}/proto`)).status).toBe(404);
  expect((await upgrade(listener.port, "/api/v1")).head).toMatch(/^HTTP\/1\.1 404 /);
  const first = await upgrade(listener.port, "/proto");
  expect(first.head).toMatch(/^HTTP\/1\.1 101 /);
  await upgrade(listener.port, "/proto?x=1");
  const { head } = await upgrade(listener.port, "/proto");
  expect(head).toMatch(/^HTTP\/1\.1 503 /);
  expect(head).toMatch(/\r\nRetry-After: 10\r\n/);

  first.socket.destroy();
  await expect.poll(async () => (await upgrade(listener.port, "/proto")).head).toMatch(/^HTTP\/1\.1 101 /);
});

test("one who has proved nothing is cut off before a large message is whole, and gets no session", async () => {
  const { listener, log } = await listen();
  const stranger = new WebSocket(`ws://127.0.0.1:${listener.port}/proto`);
  stranger.on("error", () => {});
  const received: string[] = [];
  stranger.on("message", (data) => received.push(String(data)));
  const closed = new Promise<number>((resolve) => stranger.once("close", resolve));
  await new Promise((resolve) => stranger.once("open", resolve));
  stranger.send(Buffer.alloc(8 * 2 ** 20, "x").toString());

  expect(await closed).toBe(1006);
  expect(received.map((text) => Object.keys(JSON.parse(text)))).toEqual([["type", "version", "nonce"]]);
  expect(listener.take()).toBeNull();
  await expect.poll(() => log.lines.length).toBe(1);
});

test("a worker that cannot listen says where and what to set", async () => {
  const { listener, options } = await listen();
  await expect(DialListener.open({ ...options, port: listener.port })).rejects.toThrow(
    /cannot listen on 127\.0\.0\.1, port \d+ .*EADDRINUSE.*GRADIENT_WORKER_PORT/,
  );
});
