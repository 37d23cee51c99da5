import { randomBytes, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { sql } from "kysely";
import { afterEach, expect, test } from "vitest";
import { claimDials } from "#core/db/worker-dials.ts";
import { parseIpNetwork } from "#core/domain/ip-address.ts";
import { systemClock } from "#core/lib/clock.ts";
import { Hub } from "#runtime/node/hub/hub.ts";
import { argon2Hasher } from "#runtime/node/password-hasher.ts";
import { createWorkerDial } from "#runtime/node/worker-dial.ts";
import { type HubBench, withHub } from "#test/support/hub.ts";
import { recordingLogger } from "#test/support/recording-logger.ts";
import { DialListener } from "#worker/dial-listener.ts";
import { parsePeers, tokensFor } from "#worker/peers.ts";
import { Supervisor } from "#worker/session/supervisor.ts";

const LOOPBACK = [parseIpNetwork("127.0.0.1/32")].filter((network) => network !== null);
const dialWorker = createWorkerDial({ allowed: LOOPBACK, privateAllowed: true });

let stack = new AsyncDisposableStack();

afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

async function start(): Promise<HubBench> {
  return stack.use(await withHub({ dialWorker }));
}

/** A worker's listener and session, with the real parts of both. */
async function listeningWorker({ port = 0, workerId = randomUUID() as string } = {}) {
  const token = randomBytes(48).toString("base64");
  const log = recordingLogger();
  let text = `*:${token}`;
  const readPeers = async () => parsePeers(text, "peers");
  const listener = await DialListener.open({
    address: "127.0.0.1",
    port,
    connectionsMax: 4,
    workerId,
    readPeers,
    log,
  });
  const stop = new AbortController();
  const attached: number[] = [];
  const supervisor = new Supervisor({
    workerId,
    capabilities: { fetch: true, eval: true, build: true, sign: false, federate: false },
    facts: {
      architectures: ["x86_64-linux"],
      systemFeatures: [],
      maxConcurrentBuilds: 2,
      maxConcurrentEvaluations: 1,
      cpuCount: 2,
      ramTotalMb: 1024,
    },
    connect: async (signal) => {
      await listener.arrival(signal);
      const socket = listener.take();
      if (!socket) throw new Error("stopped");
      return socket;
    },
    arrival: (signal) => listener.arrival(signal),
    tokensFor: async (challenged, socket) =>
      (await listener.proofOf(socket)?.answer(tokensFor(await readPeers(), challenged))) ?? [],
    clock: systemClock,
    log,
    attempts: () => [],
    onAttached: () => attached.push(Date.now()),
    onMessage: () => {},
    onLeaseLost: () => {},
  });
  const running = supervisor.run(stop.signal);
  stack.defer(async () => {
    stop.abort();
    await running;
    await listener[Symbol.asyncDispose]();
  });
  return {
    workerId,
    token,
    log,
    supervisor,
    attached,
    port: listener.port,
    url: `ws://127.0.0.1:${listener.port}/proto`,
    setPeers: (peers: string) => {
      text = peers;
    },
  };
}

async function register(
  bench: HubBench,
  worker: { workerId: string; token: string; url: string },
  organization = bench.organizationId,
) {
  await bench.addRegistration(worker.workerId, organization);
  await bench.db
    .updateTable("worker_registration")
    .set({ url: worker.url, token_hash: await argon2Hasher.hash(worker.token) })
    .where("worker_id", "=", worker.workerId)
    .where("organization_id", "=", organization)
    .execute();
  bench.deps.notifier.notify("registration", `${organization}/${worker.workerId}`);
}

async function dialState(bench: HubBench, workerId: string) {
  return await bench.db
    .selectFrom("worker_registration")
    .select(["dial_error", "dial_failures", "dial_after"])
    .where("worker_id", "=", workerId)
    .executeTakeFirstOrThrow();
}

test("a worker that is registered with an address is dialled, and works as one that came by itself", async () => {
  const bench = await start();
  const worker = await listeningWorker();
  await register(bench, worker);

  await expect.poll(() => worker.attached.length, { timeout: 5_000 }).toBe(1);
  await bench.addBuild("thing");
  worker.supervisor.current?.send({ type: "request_job", kind: "build", free: 1 });
  const open = bench.db.selectFrom("attempt").select("worker_id").where("finished_at", "is", null);
  await expect.poll(() => open.execute()).toEqual([{ worker_id: worker.workerId }]);
  await expect.poll(async () => (await dialState(bench, worker.workerId)).dial_failures).toBe(0);
  expect(bench.hub.connections).toBe(1);
});

test("two servers on one database dial a worker once", async () => {
  const bench = await start();
  const second = await Hub.start({ ...bench.deps, server: { id: randomUUID(), storage: bench.deps.server.storage } });
  stack.defer(() => second.close());
  const worker = await listeningWorker();
  const other = await bench.makeOrganization();
  await register(bench, worker, other);
  await register(bench, worker);

  await expect.poll(() => worker.attached.length, { timeout: 5_000 }).toBeGreaterThan(0);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  expect(bench.hub.connections + second.connections).toBe(1);
  const sessions = bench.db
    .selectFrom("worker_connection")
    .select("organization_ids")
    .where("disconnected_at", "is", null);
  const [session] = await sessions.execute();
  expect(session?.organization_ids.toSorted()).toEqual([bench.organizationId, other].sort());
});

test("while one server chooses whom to dial another chooses nobody, also by another registration", async () => {
  const bench = stack.use(await withHub());
  const worker = { workerId: randomUUID() as string, token: "x", url: "ws://127.0.0.1:1/proto" };
  await register(bench, worker);
  await register(bench, worker, await bench.makeOrganization());
  const options = { claimMs: 60_000, limit: 1 };

  await bench.db.transaction().execute(async (trx) => {
    await sql`select pg_advisory_xact_lock(hashtextextended('claim dials', 0))`.execute(trx);
    expect(await claimDials(bench.db, options)).toEqual([]);
  });
  const claims = await Promise.all([claimDials(bench.db, options), claimDials(bench.db, options)]);
  const [due, ...others] = claims.flat();
  expect(due).toMatchObject({ workerId: worker.workerId, url: worker.url, failures: 0 });
  expect(due?.registrations).toHaveLength(2);
  expect([...others, ...(await claimDials(bench.db, options))]).toEqual([]);
});

test("a worker that lost its connection is dialled again, and one that is deactivated is left alone", async () => {
  const bench = await start();
  const worker = await listeningWorker();
  await register(bench, worker);
  await expect.poll(() => worker.attached.length, { timeout: 5_000 }).toBe(1);
  worker.supervisor.current?.connection.close(1001, "lost");
  await expect.poll(() => worker.attached.length, { timeout: 15_000 }).toBe(2);

  await bench.db.updateTable("worker_registration").set({ active: false }).execute();
  bench.deps.notifier.notify("registration", `${bench.organizationId}/${worker.workerId}`);
  await expect.poll(() => bench.hub.connections).toBe(0);
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  expect(worker.attached.length).toBe(2);
});

test("why a worker cannot be dialled is kept for its owners, and the pause grows", async () => {
  const bench = await start();
  const [closed, metadata, page, wrong] = Array.from({ length: 4 }, () => ({ workerId: randomUUID(), token: "x" }));
  const server = createServer((_request, response) => response.writeHead(200).end("a page"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stack.defer(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const listening = await listeningWorker();
  const cases = [
    [closed, "ws://127.0.0.1:1/proto", /ECONNREFUSED/],
    [metadata, "http://169.254.169.254/latest", /local or reserved address 169\.254\.169\.254/],
    [page, `http://127.0.0.1:${port}/proto`, /127\.0\.0\.1:\d+/],
    [wrong, listening.url, /the worker does not know this server/],
  ] as const;
  for (const [worker, url, reason] of cases) {
    await register(bench, { ...(worker as { workerId: string; token: string }), url });
    await expect
      .poll(async () => (await dialState(bench, worker?.workerId ?? "")).dial_error, { timeout: 8_000 })
      .toMatch(reason);
  }
  const state = await dialState(bench, closed?.workerId ?? "");
  expect(state.dial_failures).toBe(1);
  expect(Number(state.dial_after) - Date.now()).toBeGreaterThan(1_000);
  expect(listening.attached).toEqual([]);
  const heard = listening.log.lines.map(({ fields }) => String(fields?.reason ?? ""));
  expect(heard.some((reason) => reason.includes("looks for another worker"))).toBe(true);
});

test("a server that does not know the worker's token gets no session, and the operator is told", async () => {
  const bench = await start();
  const worker = await listeningWorker();
  await register(bench, { ...worker, token: randomBytes(48).toString("base64") });

  await expect
    .poll(() => worker.log.lines.map(({ fields }) => String(fields?.reason ?? "")), { timeout: 5_000 })
    .toContain(`whoever dialled does not know this worker's token for ${bench.organizationId}`);
  await expect
    .poll(async () => (await dialState(bench, worker.workerId)).dial_error)
    .toMatch(/the worker does not know this server/);
  expect(worker.attached).toEqual([]);
});
