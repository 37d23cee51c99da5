import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { FakeWorker } from "#test/support/fake-worker.ts";
import {
  ACME,
  ARM,
  accepting,
  assign,
  attached,
  attemptId,
  BUILT,
  behind,
  bench,
  busyWorker,
  handedBack,
  INFO,
  OTHER,
  PATH,
  start,
  told,
  useRelay,
} from "#test/support/relay-bench.ts";

useRelay();

test("a job of an organization goes to no worker that is not for it", async () => {
  const server = await attached();
  const acme = await behind({ organizations: [ACME] });
  const other = await behind({ organizations: [OTHER] });
  await expect.poll(() => told(server).asked).toEqual({ 0: 2, 1: 2 });
  expect(told(server).capabilities.groups.map((group) => group.organizations)).toEqual([[ACME], [OTHER]]);

  await assign(server, 1, 1, OTHER);
  expect((await other.next("assign_job")).attempt).toBe(attemptId(1));
  await assign(server, 2, 1, ACME);

  expect(await server.next("assign_job_response")).toMatchObject({ attempt: attemptId(2), accepted: false });
  expect([acme.count("assign_job"), other.count("assign_job")]).toEqual([0, 1]);
});

test("what a worker says of another's attempts is answered as by a server, and goes no further", async () => {
  const server = await attached();
  const owner = await behind({ groups: [{ ...ARM, max_concurrent_builds: 1 }], free: 1 });
  const thief = await behind();
  accepting(owner);
  await expect.poll(() => told(server).asked).toEqual({ 0: 1, 1: 2 });
  const attempt = await assign(server, 1, 0);
  await owner.next("assign_job");

  thief.send({ type: "cache_query", query: 1, attempt, paths: [PATH] });
  thief.send({ type: "nar_request", request: 2, attempt, path: PATH });
  const push = { attempt, target: "output", info: INFO, compression: "none" } as const;
  thief.send({ type: "nar_push", upload: 3, ...push, stream: thief.connection.openStream().id });
  thief.send({ type: "job_result", attempt, result: BUILT });
  thief.send({ type: "assign_job_response", attempt, accepted: false });

  expect(await thief.next("query_error")).toMatchObject({ query: 1, message: "the lease has ended" });
  expect(await thief.next("nar_unavailable")).toMatchObject({ request: 2, retry: false });
  expect(await thief.next("nar_refused")).toMatchObject({ upload: 3, retry: false });
  await thief.next("job_result_ack");
  expect(await server.next("assign_job_response")).toMatchObject({ accepted: true });
  for (const type of ["cache_query", "nar_request", "nar_push", "job_result", "assign_job_response"] as const) {
    expect(server.count(type), type).toBe(type === "assign_job_response" ? 1 : 0);
  }
});

test("a wrong token, an unknown worker and a foreign organization are refused", async () => {
  await attached();
  const stranger = new FakeWorker((socket) => bench.relay.accept(socket));
  stranger.hello();
  expect(await stranger.next("reject")).toMatchObject({ code: 403, reason: expect.stringContaining("does not know") });

  const workerId = randomUUID();
  bench.tokens.set(workerId, { byOrganization: new Map([[ACME, "right"]]), any: null });
  const wrong = new FakeWorker((socket) => bench.relay.accept(socket), { workerId, tokens: { [ACME]: "wrong" } });
  await wrong.authenticate();
  expect(await wrong.next("reject")).toMatchObject({ code: 401, reason: expect.stringContaining("invalid token") });

  bench.tokens.set(workerId, { byOrganization: new Map([[randomUUID(), "right"]]), any: null });
  const foreign = new FakeWorker((socket) => bench.relay.accept(socket), { workerId });
  foreign.hello();
  expect(await foreign.next("reject")).toMatchObject({ code: 403, reason: expect.stringContaining("none of the") });
});

test("an organization that no longer lets the relay in has no workers behind it from then on", async () => {
  const server = await attached();
  const both = await behind();
  const only = await behind({ organizations: [OTHER] });
  await expect.poll(() => told(server).asked).toEqual({ 0: 2, 1: 2 });

  server.send({ type: "auth_update", authorized_peers: [ACME], failed_peers: [] });
  expect(await both.answerChallenge()).toEqual([ACME]);

  await expect.poll(() => only.closed).not.toBeNull();
  await expect
    .poll(() => told(server).capabilities.groups.filter((group) => group.max_concurrent_builds > 0))
    .toMatchObject([{ organizations: [ACME] }]);
});

test("a worker that the operator takes out of the file is sent away, and what it had is handed back", async () => {
  const server = await attached();
  const { worker, attempt } = await busyWorker(server);

  bench.tokens.delete(worker.workerId);
  await bench.relay.reload();

  expect(await worker.next("abort_job")).toMatchObject({ attempt });
  expect(await worker.next("reject")).toMatchObject({ code: 403 });
  await expect
    .poll(() => handedBack(server))
    .toMatchObject([{ attempt, reason: expect.stringContaining("no longer lets this worker in") }]);
  await server.next("reauth_request");
});

test("a newer session of a worker replaces the older, also where there is no place for another", async () => {
  await bench.servers.session(0);
  await bench.relay.abort();
  await bench.running;
  start({ workersMax: 1 });
  await attached(1);
  const workerId = randomUUID();
  const older = await behind({ workerId });
  const stranger = randomUUID();
  bench.tokens.set(stranger, { byOrganization: new Map([[ACME, "token"]]), any: null });
  const second = new FakeWorker((socket) => bench.relay.accept(socket), {
    workerId: stranger,
    tokens: { [ACME]: "token" },
  });
  await second.authenticate();
  await second.next("init_ack");
  second.introduce();
  expect(await second.next("reject")).toMatchObject({ code: 503, reason: expect.stringContaining("is 1") });
  expect(bench.relay.hasRoom).toBe(false);

  await behind({ workerId });

  await expect.poll(() => older.closed).toBe("a newer session of this worker has begun");
});
