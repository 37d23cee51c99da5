import { randomUUID } from "node:crypto";
import { afterEach, expect, test } from "vitest";
import { AttemptOutcome } from "#core/domain/states.ts";
import { BUILDS_ASKED_MAX, CONTROL_MESSAGE_BYTES_MAX } from "#core/protocol/limits.ts";
import { CAPABILITIES } from "#test/support/fake-worker.ts";
import { HUB_LIMITS, type HubBench, withHub } from "#test/support/hub.ts";
import { ManualClock } from "#test/support/manual-clock.ts";

const ATTEMPT = "01890000-0000-7000-8000-00000000000a";

let bench: HubBench | null = null;

afterEach(async () => {
  await bench?.[Symbol.asyncDispose]();
  bench = null;
});

async function start(...options: Parameters<typeof withHub>): Promise<HubBench> {
  bench = await withHub(...options);
  return bench;
}

test("a worker that nobody has registered is told its id and what to do", async () => {
  const { worker } = await start();
  const stranger = worker();
  stranger.hello();

  expect(await stranger.next("reject")).toEqual({
    type: "reject",
    code: 403,
    reason:
      `no organization has registered the worker ${stranger.workerId}: ` +
      "register it, then write the peer id and token to its peers file",
  });
  await expect.poll(() => stranger.closed).not.toBeNull();
});

test("a deactivated worker is told so, and what to do", async () => {
  const { worker, addRegistration, db } = await start();
  const workerId = randomUUID();
  await addRegistration(workerId);
  await db.updateTable("worker_registration").set({ active: false }).execute();
  const deactivated = worker({ workerId });
  deactivated.hello();

  expect(await deactivated.next("reject")).toMatchObject({
    code: 403,
    reason: "this worker is deactivated: activate it in the list of its organization's workers",
  });
});

test("a wrong token and a missing one are told apart, each with its organization", async () => {
  const { worker, addRegistration, makeOrganization, organizationId } = await start();
  const workerId = randomUUID();
  const other = await makeOrganization();
  await addRegistration(workerId);
  await addRegistration(workerId, other);
  const wrong = worker({ workerId, tokens: { [organizationId]: "of another day" } });
  await wrong.authenticate();

  const { code, reason } = await wrong.next("reject");
  expect(code).toBe(401);
  expect(reason).toContain("no valid token in the worker's peers file");
  expect(reason).toContain(`${organizationId}: invalid token`);
  expect(reason).toContain(`${other}: no token provided`);
  expect(reason).not.toContain("of another day");
});

test("another version of the protocol is refused with both versions", async () => {
  const { worker } = await start();
  const old = worker();
  old.hello(7);

  expect(await old.next("reject")).toMatchObject({
    code: 400,
    reason:
      "this server speaks version 2 of the protocol, the worker version 7: " +
      "run the same release on both, then restart the worker",
  });
});

test.each([
  ["a request for work", { type: "request_job", kind: "build", free: 1 }],
  ["an answer to no challenge", { type: "auth_response", tokens: [] }],
  [
    "a result",
    { type: "job_result", attempt: ATTEMPT, result: { kind: "evaluation", status: "completed", failure: null } },
  ],
  ["a drain", { type: "draining" }],
] as const)("%s ahead of the greeting ends the session with a reason", async (_, message) => {
  const { worker, hub } = await start();
  const hasty = worker();
  hasty.send(message as Parameters<typeof hasty.send>[0]);

  await expect.poll(() => hasty.closed).toBe(`${message.type} is out of order`);
  expect(await hasty.next("error")).toMatchObject({ code: 400, message: `${message.type} is out of order` });
  await expect.poll(() => hub.connections).toBe(0);
});

test("a second greeting, also while the first is being looked at, ends the session", async () => {
  const { worker, addRegistration } = await start();
  const twice = worker();
  // Whom nobody knows would be refused, perhaps before the second greeting is heard.
  await addRegistration(twice.workerId);
  twice.hello();
  twice.hello();

  await expect.poll(() => twice.closed).toBe("init_connection is out of order");
});

test.each([
  ["text that is no JSON", "{"],
  ["a message nobody knows", '{"type":"take_over"}'],
  ["a message of the server's own", '{"type":"init_ack"}'],
  ["a message larger than allowed", `"${"x".repeat(CONTROL_MESSAGE_BYTES_MAX)}"`],
  ["a frame that is too short", new Uint8Array(3)],
  ["a frame of an unknown kind", new Uint8Array(16).fill(9)],
  ["a frame larger than allowed", new Uint8Array(16 + 256 * 1024 + 1)],
])("%s ends the session and nothing else", async (_, data) => {
  const { worker, hub, registered } = await start();
  const good = await registered();
  const bad = worker();
  await bad.socket.send(data);

  await expect.poll(() => bad.closed).not.toBeNull();
  await expect.poll(() => hub.connections).toBe(1);
  expect(good.closed).toBeNull();
});

test("a handshake that does not come to its end is given up", async () => {
  const clock = new ManualClock();
  const { worker, hub } = await start({ clock });
  const silent = worker();
  await expect.poll(() => hub.connections).toBe(1);
  await clock.advance(14_000);
  expect(silent.closed).toBeNull();

  await clock.advance(2_000);

  await expect.poll(() => silent.closed).toBe("the handshake took too long");
});

test("a session that ends while its worker is being registered leaves no open connection behind", async () => {
  const { worker, addRegistration, organizationId, hub, db } = await start();
  for (let i = 0; i < 10; i++) {
    const workerId = randomUUID();
    await addRegistration(workerId);
    const quick = worker({ workerId, tokens: { [organizationId]: `token of ${workerId}` } });
    await quick.authenticate();
    await quick.next("init_ack");
    quick.introduce();
    // Each time a little later in the middle of it.
    for (let turn = 0; turn < 3 * i; turn++) await new Promise(setImmediate);
    quick.connection.close(1001, "gone");
  }
  await expect.poll(() => hub.connections).toBe(0);

  const open = () =>
    db.selectFrom("worker_connection").select("worker_id").where("disconnected_at", "is", null).execute();
  await expect.poll(open).toEqual([]);
});

test("the newer session of a worker replaces the older, and goes on with what it runs", async () => {
  const { registered, worker, addBuild, organizationId, hub, deps } = await start();
  const older = await registered();
  await addBuild("thing");
  older.send({ type: "request_job", kind: "build", free: 1 });
  const { attempt } = await older.next("assign_job");

  const newer = worker({ workerId: older.workerId, tokens: { [organizationId]: `token of ${older.workerId}` } });

  expect(await newer.register({ attempts: [attempt] })).toEqual([attempt]);
  await expect.poll(() => older.closed).toBe("a newer session of this worker has begun");
  await expect.poll(() => hub.connections).toBe(1);
  deps.notifier.notify("abort", attempt);
  expect(await newer.next("abort_job")).toMatchObject({ attempt });
});

/** Another organization, which lets in a worker of the same id and a token of its own. */
async function intruderOf({ addRegistration, worker }: HubBench, workerId: string, organizationId: string) {
  await addRegistration(workerId, organizationId);
  return worker({ workerId, tokens: { [organizationId]: `token of ${workerId}` } });
}

test("an owner keeps its session, lease and attempt while another organization uses its worker id", async () => {
  const made = await start();
  const { registered, addBuild, db, hub, deps, organizationId } = made;
  const owner = await registered();
  await addBuild("thing");
  owner.send({ type: "request_job", kind: "build", free: 1 });
  const { attempt } = await owner.next("assign_job");

  for (const attempts of [[], [attempt]]) {
    const stranger = await made.makeOrganization();
    const intruder = await intruderOf(made, owner.workerId, stranger);
    expect(await intruder.register({ attempts })).toEqual([]);
    deps.notifier.notify("registration", `${stranger}/${owner.workerId}`);
    await intruder.answerChallenge();
    expect(await intruder.next("auth_update")).toMatchObject({ authorized_peers: [stranger] });
    intruder.connection.close(1001, "gone");
  }

  expect(owner.closed).toBeNull();
  await expect.poll(() => hub.connections).toBe(1);
  expect(owner.count("abort_job")).toBe(0);
  expect(owner.count("auth_challenge")).toBe(1);
  const open = db.selectFrom("attempt").select(["id", "outcome"]).where("finished_at", "is", null);
  expect(await open.execute()).toEqual([{ id: attempt, outcome: AttemptOutcome.Running }]);
  const sessions = db.selectFrom("worker_connection").select("organization_ids").where("disconnected_at", "is", null);
  await expect.poll(() => sessions.execute()).toEqual([{ organization_ids: [organizationId] }]);
  deps.notifier.notify("abort", attempt);
  expect(await owner.next("abort_job")).toMatchObject({ attempt });
});

test("whatever is sent about an attempt of an organization that the worker has not proved is refused", async () => {
  const made = await start();
  const { registered, addBuild, db } = made;
  const owner = await registered();
  const { output } = await addBuild("thing");
  owner.send({ type: "request_job", kind: "build", free: 1 });
  const { attempt } = await owner.next("assign_job");
  const before = await db.selectFrom("attempt").selectAll().execute();
  const intruder = await intruderOf(made, owner.workerId, await made.makeOrganization());
  await intruder.register({ attempts: [attempt] });

  intruder.send({ type: "nar_request", request: 1, attempt, path: output });
  expect(await intruder.next("nar_unavailable")).toMatchObject({ request: 1, reason: "the lease has ended" });
  intruder.send({ type: "cache_query", query: 2, attempt, paths: [output] });
  expect(await intruder.next("query_error")).toMatchObject({ query: 2, message: "the lease has ended" });
  intruder.send({ type: "query_derivations", query: 3, attempt, derivations: [] });
  expect(await intruder.next("query_error")).toMatchObject({ query: 3, message: "the lease has ended" });
  const info = {
    path: output,
    nar_hash: "0".repeat(64),
    nar_size: 1,
    references: [],
    deriver: null,
    ca: null,
  };
  const push = { upload: 4, attempt, target: "output", info, compression: "none", stream: 1 } as const;
  intruder.send({ type: "nar_push", ...push });
  expect(await intruder.next("nar_refused")).toMatchObject({ upload: 4, message: "the lease has ended" });
  const content = { stream: 2, size: 0 };
  intruder.send({ type: "eval_batch", attempt, sequence: 5, nodes: [], entry_points: [], content });
  expect(await intruder.next("eval_batch_ack")).toMatchObject({ error: "the lease of this evaluation has ended" });
  intruder.send({ type: "log_open", attempt, offset: 0, stream: 3 });
  const said = { level: "error", message: "not mine", source: "nix", attribute: null } as const;
  intruder.send({ type: "eval_message", attempt, sequence: 0, ...said });
  intruder.send({ type: "job_update", attempt, phase: "building" });
  intruder.send({ type: "assign_job_response", attempt, accepted: false, reason: "no room" });
  const failure = { class: "permanent" as const, message: "not mine", missing: [] };
  const result = { kind: "build" as const, status: "failed" as const, outputs: [], failure, build_ms: 1 };
  intruder.send({ type: "job_result", attempt, result });
  await intruder.next("job_result_ack");

  expect(intruder.closed).toBeNull();
  expect(await db.selectFrom("attempt").selectAll().execute()).toEqual(before);
  expect(await db.selectFrom("evaluation_message").select("id").execute()).toEqual([]);
  expect(owner.closed).toBeNull();
});

test("a session that proves a part of what an older one did takes over that part and no more", async () => {
  const { makeOrganization, addRegistration, addBuild, worker, organizationId, hub, db } = await start();
  const workerId = randomUUID();
  const other = await makeOrganization();
  await addRegistration(workerId);
  await addRegistration(workerId, other);
  const token = `token of ${workerId}`;
  const older = worker({ workerId, tokens: { [organizationId]: token, [other]: token } });
  await older.register();
  await addBuild("thing");
  older.send({ type: "request_job", kind: "build", free: 1 });
  const { attempt } = await older.next("assign_job");

  const newer = worker({ workerId, tokens: { [other]: token } });
  expect(await newer.register({ attempts: [attempt] })).toEqual([]);
  expect(older.closed).toBeNull();
  expect(older.count("abort_job")).toBe(0);
  const third = worker({ workerId, tokens: { [organizationId]: token } });
  expect(await third.register({ attempts: [attempt] })).toEqual([attempt]);
  await expect.poll(() => older.closed).toBe("a newer session of this worker has begun");
  await expect.poll(() => hub.connections).toBe(2);
  const sessions = db.selectFrom("worker_connection").select("organization_ids").where("disconnected_at", "is", null);
  expect((await sessions.execute()).flatMap((row) => row.organization_ids).sort()).toEqual(
    [organizationId, other].sort(),
  );
});

test("what a worker holds against the server ends the session and is logged", async () => {
  const { registered, log } = await start();
  const critic = await registered();
  critic.send({ type: "error", code: 400, message: "more data than was granted" });

  await expect.poll(() => critic.closed).toBe("more data than was granted");
  expect(log.lines).toContainEqual({
    level: "error",
    message: "a worker ends its session for what the server sent",
    fields: { worker: critic.workerId, code: 400, reason: "more data than was granted" },
  });
});

test.each([
  ["of a second, which a slow line would exceed", 1_000, 25_000],
  ["of a minute", 60_000, 60_000],
  ["that is off", Number.POSITIVE_INFINITY, null],
])(
  "a silent worker under a heartbeat timeout %s is dropped no earlier and no later",
  async (_, timeoutMs, droppedMs) => {
    const clock = new ManualClock();
    const { registered } = await start({ clock, limits: { ...HUB_LIMITS, workerHeartbeatTimeoutMs: timeoutMs } });
    const worker = await registered();

    await clock.advance((droppedMs ?? 3_600_000) - 1_000);
    expect(worker.closed).toBeNull();
    if (droppedMs === null) return;
    await clock.advance(12_000);
    await expect.poll(() => worker.closed).toMatch(/^nothing was heard for \d+ s$/);
  },
);

test("capabilities are answered as they were offered", async () => {
  const { worker, addRegistration, organizationId, deps } = await start();
  const workerId = randomUUID();
  await addRegistration(workerId);
  const greeted = worker({ workerId, tokens: { [organizationId]: `token of ${workerId}` } });
  await greeted.authenticate();

  expect(await greeted.next("init_ack")).toEqual({
    type: "init_ack",
    version: 2,
    capabilities: CAPABILITIES,
    authorized_peers: [organizationId],
    failed_peers: [],
    lease_ms: deps.leaseMs,
    builds_asked_max: BUILDS_ASKED_MAX,
  });
});

const GROUP = { architectures: ["x86_64-linux"], system_features: [], max_concurrent_builds: 2 };
const CAPABLE = {
  type: "worker_capabilities",
  max_concurrent_evaluations: 1,
  cpu_count: 4,
  ram_total_mb: 4096,
} as const;

test("a group gets what it can build, and a worker may say anew what its groups are", async () => {
  const { registered, addBuild, db } = await start();
  const relay = await registered({ builds: 1 });
  await addBuild("first");
  relay.send({ type: "request_job", kind: "build", group: 0, free: 1 });
  await relay.next("assign_job");
  const arm = { ...GROUP, architectures: ["aarch64-linux"] };
  const second = await addBuild("second");
  relay.send({ type: "request_job", kind: "build", group: 0, free: 1 });
  expect((await relay.next("assign_job")).job).toMatchObject({ build: second.id });
  const third = await addBuild("third");
  relay.send({ ...CAPABLE, groups: [arm, GROUP], attempts: null });
  relay.send({ type: "request_job", kind: "build", group: 0, free: 1 });
  const described = db.selectFrom("worker_connection").select("description").where("disconnected_at", "is", null);
  await expect.poll(async () => (await described.executeTakeFirstOrThrow()).description.groups).toEqual([arm, GROUP]);
  expect(relay.count("assign_job")).toBe(2);
  expect(relay.count("abort_job")).toBe(0);

  relay.send({ type: "request_job", kind: "build", group: 1, free: 1 });
  expect((await relay.next("assign_job")).job).toMatchObject({ build: third.id });
});

test.each([
  ["that names attempts again", { ...CAPABLE, groups: [GROUP], attempts: [] }, /attempts are named once/],
  ["for a group there is not", { type: "request_job", kind: "build", group: 1, free: 1 }, /there is no group 1/],
] as const)("a message %s ends the session", async (_, message, reason) => {
  const { registered } = await start();
  const worker = await registered();
  worker.send(message as unknown as Parameters<typeof worker.send>[0]);

  await expect.poll(() => worker.closed).toMatch(reason);
});

test("a session that does not say which attempts its worker has is refused", async () => {
  const { worker, addRegistration, organizationId } = await start();
  const workerId = randomUUID();
  await addRegistration(workerId);
  const vague = worker({ workerId, tokens: { [organizationId]: `token of ${workerId}` } });
  await vague.authenticate();
  await vague.next("init_ack");
  vague.send({ ...CAPABLE, groups: [GROUP], attempts: null });

  await expect.poll(() => vague.closed).toBe("a session begins with the attempts that the worker has");
});
