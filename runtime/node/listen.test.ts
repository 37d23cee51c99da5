import { createServer } from "node:http";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { attachProtoEndpoint } from "./hub/websocket.ts";
import { listen, stopListening } from "./listen.ts";

/** A client that answers nothing and never closes its end, with the first bytes that it was sent. */
async function connectSilent(port: number, request: string): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  socket.on("error", () => {});
  socket.write(request);
  return await new Promise((resolve) => socket.once("data", (data) => resolve(data.toString("latin1"))));
}

const upgrade = (path: string) =>
  `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;

test("clients that stay after a refused upgrade do not hold up the stop", async () => {
  const server = createServer();
  const refusal = { status: 503 as const, headers: { "Retry-After": "1" } };
  attachProtoEndpoint(server, { refuse: () => refusal, accept: () => {} });
  const port = await listen(server, { address: "127.0.0.1", port: 0 });
  for (let i = 0; i < 5; i++) {
    expect(await connectSilent(port, upgrade(i === 0 ? "/elsewhere" : "/proto"))).toMatch(/^HTTP\/1\.1 (404|503) /);
  }

  expect(await Promise.race([stopListening(server, 60_000).then(() => "stopped"), sleep(2_000)])).toBe("stopped");
});

test("what is left of upgraded connections after the grace time is cut off", async () => {
  const server = createServer();
  server.on("upgrade", (_request, socket) => void socket.write("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
  const port = await listen(server, { address: "127.0.0.1", port: 0 });
  expect(await connectSilent(port, upgrade("/proto"))).toContain("101");

  expect(await Promise.race([stopListening(server, 100).then(() => "stopped"), sleep(2_000)])).toBe("stopped");
});

test("several servers listen on one port when all of them share it, and no other does", async () => {
  const answering = (name: string) => createServer((_, response) => response.end(name));
  const [one, other] = [answering("one"), answering("other")];
  const port = await listen(one, { address: "127.0.0.1", port: 0, reusePort: true });
  await listen(other, { address: "127.0.0.1", port, reusePort: true });
  onTestFinished(() => void Promise.all([stopListening(one, 100), stopListening(other, 100)]));

  const seen = new Set<string>();
  const ask = async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } });
    return seen.add(await answer.text());
  };
  await expect.poll(ask).toEqual(new Set(["one", "other"]));
  await expect(listen(createServer(), { address: "127.0.0.1", port })).rejects.toThrow("GRADIENT_REUSE_PORT");
});
