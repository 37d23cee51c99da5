import { randomUUID } from "node:crypto";
import { afterEach, expect, test } from "vitest";
import { BuildStatus } from "#core/domain/states.ts";
import { systemClock } from "#core/lib/clock.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { type HubBench, withHub } from "#test/support/hub.ts";
import { insertEvaluationRow, insertProjectRow, linkBuild } from "#test/support/rows.ts";

let bench: HubBench | null = null;

afterEach(async () => {
  await bench?.[Symbol.asyncDispose]();
  bench = null;
});

async function start(...options: Parameters<typeof withHub>): Promise<HubBench> {
  bench = await withHub(...options);
  return bench;
}

async function building(made: HubBench, worker: FakeWorker) {
  const build = await made.addBuild("thing");
  worker.send({ type: "request_job", kind: "build", free: 1 });
  const { attempt } = await worker.next("assign_job");
  return { ...build, attempt };
}

function changed({ deps, organizationId }: HubBench, worker: FakeWorker, organization = organizationId): void {
  deps.notifier.notify("registration", `${organization}/${worker.workerId}`);
}

async function change(made: HubBench, worker: FakeWorker, values: object, organization = made.organizationId) {
  await made.db
    .updateTable("worker_registration")
    .set(values)
    .where("worker_id", "=", worker.workerId)
    .where("organization_id", "=", organization)
    .execute();
  changed(made, worker, organization);
}

/** A worker that two organizations let in. */
async function shared(made: HubBench): Promise<{ worker: FakeWorker; other: string }> {
  const other = await made.makeOrganization();
  const workerId = randomUUID();
  const token = `token of ${workerId}`;
  await made.addRegistration(workerId);
  await made.addRegistration(workerId, other);
  const worker = made.worker({ workerId, tokens: { [made.organizationId]: token, [other]: token } });
  await worker.register();
  return { worker, other };
}

test("a worker whose token was changed proves itself by the new one and goes on with what it runs", async () => {
  const made = await start();
  const worker = await made.registered();
  const build = await building(made, worker);

  await change(made, worker, { token_hash: "a newer token" });
  expect(await worker.next("auth_challenge")).toEqual({ type: "auth_challenge", peers: [made.organizationId] });
  worker.send({ type: "auth_response", tokens: [{ peer: made.organizationId, token: "a newer token" }] });

  expect(await worker.next("auth_update")).toEqual({
    type: "auth_update",
    authorized_peers: [made.organizationId],
    failed_peers: [],
  });
  expect(worker.count("abort_job")).toBe(0);
  made.deps.notifier.notify("abort", build.attempt);
  expect(await worker.next("abort_job")).toMatchObject({ attempt: build.attempt });
});

test("a worker that has only the old token loses what it runs to another and is refused", async () => {
  const made = await start();
  const worker = await made.registered();
  const build = await building(made, worker);
  const other = await made.registered();
  other.send({ type: "request_job", kind: "build", free: 1 });

  await change(made, worker, { token_hash: "a newer token" });
  await worker.answerChallenge();

  expect((await other.next("assign_job")).job).toMatchObject({ build: build.id });
  expect(await worker.next("abort_job")).toMatchObject({ attempt: build.attempt });
  expect(await worker.next("reject")).toMatchObject({ code: 401 });
  await expect.poll(() => worker.closed).toMatch(/no valid token/);
});

test("a worker that is deactivated everywhere is refused with what to do, and loses its leases at once", async () => {
  const made = await start();
  const worker = await made.registered();
  const build = await building(made, worker);

  await change(made, worker, { active: false });

  expect(await worker.next("abort_job")).toMatchObject({
    attempt: build.attempt,
    reason: "the organization no longer lets this worker in",
  });
  expect(await worker.next("reject")).toMatchObject({
    code: 403,
    reason: "this worker is deactivated: activate it in the list of its organization's workers",
  });
  await expect.poll(() => worker.closed).toMatch(/deactivated/);
  const status = made.db.selectFrom("build").select("status").where("id", "=", build.id);
  expect((await status.executeTakeFirstOrThrow()).status).toBe(BuildStatus.Queued);
});

test("an organization that deactivates a shared worker gets its builds back, whatever the worker answers", async () => {
  const made = await start();
  const { worker, other } = await shared(made);
  const build = await building(made, worker);

  await change(made, worker, { active: false });

  // The worker has not said a word yet.
  expect(await worker.next("abort_job")).toMatchObject({ attempt: build.attempt });
  const status = made.db.selectFrom("build").select("status").where("id", "=", build.id);
  await expect.poll(async () => (await status.executeTakeFirstOrThrow()).status).toBe(BuildStatus.Queued);
  expect(await worker.answerChallenge()).toEqual([other]);
  expect(await worker.next("auth_update")).toMatchObject({ authorized_peers: [other] });
  expect(worker.closed).toBeNull();
  const sessions = made.db
    .selectFrom("worker_connection")
    .select("organization_ids")
    .where("disconnected_at", "is", null);
  expect(await sessions.execute()).toEqual([{ organization_ids: [other] }]);
});

test("a worker that asks to prove itself anew works for the organization that was added", async () => {
  const made = await start();
  const worker = await made.registered();
  const other = await made.makeOrganization();
  await made.addRegistration(worker.workerId, other);
  await change(made, worker, { enable_build: false });
  await worker.answerChallenge();
  await worker.next("auth_update");

  worker.send({ type: "request_job", kind: "build", free: 1 });
  const projectId = await insertProjectRow(made.db, { organizationId: other });
  const build = await made.addBuild("theirs");
  await made.db.updateTable("build").set({ organization_id: other }).where("id", "=", build.id).execute();
  await linkBuild(made.db, await insertEvaluationRow(made.db, { organizationId: other, projectId }), build.id);
  worker.tokens[other] = `token of ${worker.workerId}`;
  worker.send({ type: "reauth_request" });
  await worker.answerChallenge();

  expect((await worker.next("auth_update")).authorized_peers.toSorted()).toEqual([made.organizationId, other].sort());
  expect((await worker.next("assign_job")).job).toMatchObject({ build: build.id });
  expect(worker.count("assign_job")).toBe(1);
});

test("a session that proves an organization in its middle takes it over from another of the same worker", async () => {
  const made = await start();
  const worker = await made.registered();
  const other = await made.makeOrganization();
  await made.addRegistration(worker.workerId, other);
  const token = `token of ${worker.workerId}`;
  const second = made.worker({ workerId: worker.workerId, tokens: { [other]: token } });
  await second.register();
  expect(worker.closed).toBeNull();

  worker.tokens[other] = token;
  worker.send({ type: "reauth_request" });
  await worker.answerChallenge();
  await worker.next("auth_update");

  await expect.poll(() => second.closed).toBe("a newer session of this worker has begun");
  const open = made.db.selectFrom("worker_connection").select("organization_ids").where("disconnected_at", "is", null);
  await expect.poll(async () => (await open.execute()).length).toBe(1);
  expect((await open.execute())[0]?.organization_ids.toSorted()).toEqual([made.organizationId, other].sort());
});

test("a worker gets no jobs between a change of its registration and its answer", async () => {
  const made = await start();
  const worker = await made.registered();
  await change(made, worker, { enable_eval: false });
  await worker.next("auth_challenge");
  const build = await made.addBuild("thing");
  worker.send({ type: "request_job", kind: "build", free: 1 });
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(worker.count("assign_job")).toBe(0);

  worker.send({
    type: "auth_response",
    tokens: [{ peer: made.organizationId, token: `token of ${worker.workerId}` }],
  });

  expect((await worker.next("assign_job")).job).toMatchObject({ build: build.id });
});

test("a worker that does not answer the challenge is given up", async () => {
  const timers: { readonly ms: number; readonly action: () => void }[] = [];
  const clock = {
    ...systemClock,
    schedule: (ms: number, action: () => void) => {
      timers.push({ ms, action });
      return systemClock.schedule(ms, action);
    },
  };
  const made = await start({ clock });
  const worker = await made.registered();
  changed(made, worker);
  await worker.next("auth_challenge");

  timers.findLast(({ ms }) => ms === 15_000)?.action();

  await expect.poll(() => worker.closed).toBe("the worker did not prove itself anew in time");
});

test("a flood of requests to be challenged is answered once a second", async () => {
  const made = await start();
  const worker = await made.registered();
  const answering = setInterval(() => {
    if (worker.count("auth_challenge") <= worker.count("auth_update") + 1) return;
    // Of two that wait for one challenge the second gets none.
    worker.answerChallenge().catch(() => {});
  }, 5);
  for (let i = 0; i < 2_000; i++) worker.send({ type: "reauth_request" });
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  for (let i = 0; i < 2_000; i++) worker.send({ type: "reauth_request" });
  await new Promise((resolve) => setTimeout(resolve, 200));
  clearInterval(answering);

  expect(worker.closed).toBeNull();
  // One was of the handshake.
  expect(worker.count("auth_challenge")).toBeGreaterThanOrEqual(3);
  expect(worker.count("auth_challenge")).toBeLessThanOrEqual(4);
});

test("an answer that nobody asked for ends the session", async () => {
  const worker = await (await start()).registered();
  worker.send({ type: "auth_response", tokens: [] });

  await expect.poll(() => worker.closed).toBe("auth_response is out of order");
});
