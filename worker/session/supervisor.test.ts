import { afterEach, beforeEach, expect, test } from "vitest";
import { systemRandom } from "#core/lib/ids.ts";
import { PROTOCOL_VERSION } from "#core/protocol/limits.ts";
import { FakeServers, ORGANIZATION } from "#test/support/fake-server.ts";
import { ManualClock, settle } from "#test/support/manual-clock.ts";
import { recordingLogger } from "#test/support/recording-logger.ts";
import { Supervisor } from "./supervisor.ts";

const ATTEMPT = "01890000-0000-7000-8000-00000000000a";

let clock: ManualClock;
let servers: FakeServers;
let stop: AbortController;
let running: Promise<void>;
let supervisor: Supervisor;
let leasesLost: number;
let log: ReturnType<typeof recordingLogger>;
/** When the worker tried to connect, in the clock's milliseconds. */
let tries: number[];
/** Pauses that have begun: one follows each try, as soon as the worker knows that its session is over. */
let pausesBegun: number;

beforeEach(() => {
  clock = new ManualClock();
  servers = new FakeServers();
  stop = new AbortController();
  leasesLost = 0;
  tries = [];
  pausesBegun = 0;
  log = recordingLogger();
  supervisor = new Supervisor({
    workerId: "7f1de7a4-3b5c-4d6e-8f90-a1b2c3d4e5f6",
    capabilities: { fetch: true, eval: true, build: true, sign: false, federate: false },
    facts: {
      architectures: ["x86_64-linux"],
      systemFeatures: [],
      maxConcurrentBuilds: 4,
      maxConcurrentEvaluations: 1,
      cpuCount: 4,
      ramTotalMb: 4096,
    },
    connect: () => {
      tries.push(clock.monotonic());
      return servers.connect();
    },
    tokensFor: async (peers) => peers.map((peer) => ({ peer, token: "secret" })),
    clock,
    // The length of a pause is drawn as it begins.
    random: (bytes) => {
      pausesBegun++;
      return systemRandom(bytes);
    },
    log,
    attempts: () => [ATTEMPT],
    onAttached: () => {},
    onMessage: () => {},
    onLeaseLost: () => leasesLost++,
  });
});

afterEach(async () => {
  stop.abort();
  await running;
});

function start(): void {
  running = supervisor.run(stop.signal);
}

function pauses(): number[] {
  return tries.slice(1).map((at, index) => at - (tries[index] as number));
}

/** Each is about twice the one before, up to a minute; a quarter more or less is chance. */
function expectGrowing(found: readonly number[]): void {
  found.forEach((pause, index) => {
    const middle = Math.min(250 * 2 ** index, 60_000);
    expect(pause).toBeGreaterThanOrEqual(0.75 * middle);
    expect(pause).toBeLessThanOrEqual(1.25 * middle);
  });
}

/** How long the worker waits before it tries the next time. The clock stands still until it has begun to. */
async function nextPause(): Promise<number> {
  await expect.poll(() => pausesBegun, { timeout: 10_000 }).toBe(tries.length);
  const before = { at: clock.monotonic(), tries: tries.length };
  while (tries.length === before.tries) await clock.advance(100);
  return (tries.at(-1) as number) - before.at;
}

test("a server that is not there is tried with growing pauses of at most a minute", async () => {
  servers.down = "connect ECONNREFUSED 127.0.0.1:3000";
  start();

  await clock.advance(600_000);

  expect(tries.length).toBeGreaterThan(12);
  expectGrowing(pauses());
  expect(log.lines).toContainEqual(
    expect.objectContaining({
      message: "the server is not reachable; trying again",
      fields: { error: "connect ECONNREFUSED 127.0.0.1:3000" },
    }),
  );
});

test("being refused makes the pause grow too, and the server's words are logged", async () => {
  servers.onSession = async (server) => {
    await server.next("init_connection");
    server.send({ type: "reject", code: 403, reason: "no organization has registered the worker" });
    server.connection.close(4403, "refused");
  };
  start();

  const found: number[] = [];
  for (let i = 0; i < 5; i++) {
    const server = await servers.session(i);
    await expect.poll(() => server.closed).not.toBeNull();
    found.push(await nextPause());
  }

  expect(found[4]).toBeGreaterThan(0.75 * 4_000);
  expect(found.toSorted((a, b) => a - b)).toEqual(found);
  expect(log.lines).toContainEqual({
    level: "error",
    message: "the server refused this worker",
    fields: { code: 403, reason: "no organization has registered the worker" },
  });
});

test("a session that lasted is followed by a short pause, one that ended at once by the next longer one", async () => {
  servers.down = "not yet";
  start();
  await clock.advance(20_000);
  servers.down = null;
  await nextPause();
  const first = await servers.session(0);
  await first.register();
  await supervisor.session(stop.signal);

  first.connection.close(1011, "at once");
  await expect.poll(() => supervisor.current).toBeNull();
  expect(await nextPause()).toBeGreaterThan(5_000);

  const second = await servers.session(1);
  await second.register();
  await supervisor.session(stop.signal);
  await clock.advance(11_000);
  second.connection.close(1001, "the server is stopping");
  await expect.poll(() => supervisor.current).toBeNull();
  expect(await nextPause()).toBeLessThanOrEqual(400);
});

test("a worker names what it runs at the beginning of each session", async () => {
  start();
  const first = await servers.session(0);
  expect(await first.greet()).toEqual([ATTEMPT]);
  first.send({ type: "attempts", held: [] });
  await supervisor.session(stop.signal);

  first.connection.close(4409, "a newer session of this worker has begun");
  await expect.poll(() => supervisor.current).toBeNull();
  await clock.advance(1_000);

  expect(await (await servers.session(1)).greet()).toEqual([ATTEMPT]);
  expect(log.lines).toContainEqual({
    level: "warn",
    message: "the session with the server ended",
    fields: { reason: "a newer session of this worker has begun" },
  });
});

test("the lease is lost when no server was reached for as long as it holds, and only then", async () => {
  start();
  const first = await servers.session(0);
  await first.register({ leaseMs: 30_000 });
  await supervisor.session(stop.signal);
  first.connection.close(1001, "away");
  await expect.poll(() => supervisor.current).toBeNull();

  await clock.advance(1_000);
  const second = await servers.session(1);
  await second.register({ leaseMs: 30_000 });
  await supervisor.session(stop.signal);
  await clock.advance(31_000);
  expect(leasesLost).toBe(0);

  servers.down = "away for long";
  second.connection.close(1001, "away");
  await expect.poll(() => supervisor.current).toBeNull();
  await clock.advance(29_000);
  expect(leasesLost).toBe(0);
  await clock.advance(2_000);
  expect(leasesLost).toBe(1);
});

test("a worker that is stopped while it has no server leaves no timer behind that would keep its process", async () => {
  start();
  const server = await servers.session(0);
  await server.register();
  await supervisor.session(stop.signal);
  servers.down = "away";
  server.connection.close(1001, "away");
  await expect.poll(() => supervisor.current).toBeNull();

  stop.abort();
  await running;

  expect(clock.pending).toBe(0);
});

test("a lease longer than timers last is not taken for one that has run out", async () => {
  const asked: number[] = [];
  const schedule = clock.schedule.bind(clock);
  clock.schedule = (ms, action) => {
    asked.push(ms);
    return schedule(ms, action);
  };
  start();
  const first = await servers.session(0);
  await first.register({ leaseMs: 30 * 86_400_000 });
  await supervisor.session(stop.signal);

  first.connection.close(1001, "away");
  await expect.poll(() => supervisor.current).toBeNull();

  expect(Math.max(...asked)).toBe(2 ** 31 - 1);
});

test("a worker with tokens of two organizations works for both", async () => {
  start();
  const server = await servers.session(0);
  await server.next("init_connection");
  const peers = [ORGANIZATION, ATTEMPT];
  server.send({ type: "auth_challenge", peers });
  await server.next("auth_response");
  const capabilities = { fetch: true, eval: true, build: true, sign: false, federate: false };
  server.send({
    type: "init_ack",
    version: PROTOCOL_VERSION,
    capabilities,
    authorized_peers: peers,
    failed_peers: [],
    lease_ms: 1,
  });

  expect(await server.next("worker_capabilities")).toMatchObject({ attempts: [ATTEMPT] });
  expect(server.closed).toBeNull();
});

test("many that wait for a session leave nothing on the signal they wait with", async () => {
  const waiting = new AbortController();
  let listeners = 0;
  const { signal } = waiting;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    listeners++;
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    listeners--;
    remove(...args);
  };
  start();
  const sessions = Array.from({ length: 20 }, () => supervisor.session(signal));
  await (await servers.session(0)).register();

  await Promise.all(sessions);
  await settle();
  expect(listeners).toBe(0);
});

test("a server that says it stops is left at once, and the next one is tried without a long pause", async () => {
  servers.down = "not yet";
  start();
  await clock.advance(120_000);
  servers.down = null;
  while (servers.sessions.length === 0) await clock.advance(100);
  const first = await servers.session(0);
  await first.register();
  await expect.poll(() => supervisor.current).not.toBeNull();
  await clock.advance(5_000);
  pausesBegun = tries.length - 1;
  first.send({ type: "draining" });
  await expect.poll(() => first.closed).toBe("the server is stopping");

  const pause = await nextPause();

  expect(pause).toBeLessThan(500);
});

test("a server that never says anything again is left after 45 s, and what runs is named to the next one", async () => {
  start();
  const first = await servers.session(0);
  await first.register();
  await expect.poll(() => supervisor.current).not.toBeNull();
  // Neither end hears of it: the line is cut somewhere between them.
  first.connection.send = () => {};
  first.socket.send = () => Promise.resolve();
  await clock.advance(40_000);
  expect(servers.sessions).toHaveLength(1);
  await clock.advance(20_000);

  const second = await servers.session(1);
  expect(await second.greet()).toEqual([ATTEMPT]);
  expect(leasesLost).toBe(0);
});
