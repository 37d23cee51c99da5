import { randomUUID } from "node:crypto";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Socket as TcpSocket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { attachProtoEndpoint } from "#runtime/node/hub/websocket.ts";
import { HUB_LIMITS, type HubBench, withHub } from "#test/support/hub.ts";
import { ManualClock } from "#test/support/manual-clock.ts";
import { recordingLogger } from "#test/support/recording-logger.ts";
import { connectToServer } from "#worker/connect.ts";
import { Supervisor } from "#worker/session/supervisor.ts";

let stack = new AsyncDisposableStack();

afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

/** A line that can go dead: its connections stay open and carry nothing any more. Neither end is told. */
async function withLine(port: number) {
  const open = new Set<TcpSocket>();
  let dead: ReadonlySet<TcpSocket> = new Set();
  const forward = (from: TcpSocket, to: TcpSocket) => {
    from.on("data", (bytes) => {
      if (!dead.has(from)) to.write(bytes);
    });
    from.on("close", () => {
      open.delete(from);
      if (!dead.has(from)) to.destroy();
    });
    from.on("error", () => {});
  };
  const server = createServer((client) => {
    const upstream = connect(port, "127.0.0.1");
    open.add(client).add(upstream);
    forward(client, upstream);
    forward(upstream, client);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stack.defer(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  return {
    url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}/proto`,
    goDead: () => {
      dead = new Set(open);
    },
  };
}

async function served(bench: HubBench) {
  const server = createHttpServer();
  attachProtoEndpoint(server, { refuse: () => null, accept: (socket) => void bench.hub.accept(socket) });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

test("a line that goes dead is noticed by both ends, and the worker comes back to what it runs", async () => {
  const [serverClock, workerClock] = [new ManualClock(), new ManualClock()];
  const limits = { ...HUB_LIMITS, workerHeartbeatTimeoutMs: 120_000 };
  const bench = stack.use(await withHub({ clock: serverClock, limits }));
  const line = await withLine(await served(bench));
  const workerId = randomUUID();
  await bench.addRegistration(workerId);
  const running: string[] = [];
  const held: string[][] = [];
  const stop = new AbortController();
  const supervisor = new Supervisor({
    workerId,
    capabilities: { fetch: true, eval: true, build: true, sign: false, federate: false },
    facts: {
      architectures: ["x86_64-linux"],
      systemFeatures: [],
      maxConcurrentBuilds: 1,
      maxConcurrentEvaluations: 1,
      cpuCount: 1,
      ramTotalMb: 1024,
    },
    connect: (signal) => connectToServer(line.url, signal),
    tokensFor: async (peers) => peers.map((peer) => ({ peer, token: `token of ${workerId}` })),
    clock: workerClock,
    log: recordingLogger(),
    attempts: () => running,
    onAttached: (_session, attempts) => held.push(attempts.map(({ attempt }) => attempt)),
    onMessage: (session, message) => {
      if (message.type !== "assign_job" || message.job.kind !== "build") return;
      session.connection.refuseStream(message.job.drv.stream);
      running.push(message.attempt);
    },
    onLeaseLost: () => {},
  });
  const done = supervisor.run(stop.signal);
  stack.defer(async () => {
    stop.abort();
    await done;
  });
  await expect.poll(() => held.length).toBe(1);
  await bench.addBuild("thing");
  supervisor.current?.send({ type: "request_job", kind: "build", free: 1 });
  await expect.poll(() => running.length).toBe(1);
  const first = supervisor.current;

  line.goDead();
  await workerClock.advance(40_000);
  expect(first?.lost).toBe(false);
  // The worker notices first, and its newer session replaces the one that the server still takes for alive.
  while (!first?.lost) await workerClock.advance(1_000);
  await expect.poll(() => bench.hub.connections).toBe(1);
  await expect
    .poll(async () => {
      await workerClock.advance(200);
      return held;
    })
    .toEqual([[], running]);
  await expect.poll(() => bench.hub.connections).toBe(1);

  line.goDead();
  stop.abort();
  await serverClock.advance(110_000);
  expect(bench.hub.connections).toBe(1);
  await serverClock.advance(25_000);
  await expect.poll(() => bench.hub.connections).toBe(0);
});
