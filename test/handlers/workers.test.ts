import { afterAll, beforeAll, expect, test } from "vitest";
import { recordWorkerSamples } from "#core/db/worker-samples.ts";
import { authorizeWorker } from "#core/services/worker-auth.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

const WORKER = "550e8400-e29b-41d4-a716-446655440001";

let t: TestApp;
let admin: TestUser;
let organizationId: string;
beforeAll(async () => {
  t = await withApp();
  admin = await t.user("Admina");
  const body = { name: "myorg", display_name: "My org" };
  organizationId = (await t.ask("PUT", "/orgs", { token: admin.token, body })).body.message;
});
afterAll(() => t[Symbol.asyncDispose]());

test("a worker is registered by its id alone, is named after it, and gets a token that authorizes it", async () => {
  const answer = await t.ask("POST", "/orgs/myorg/workers", { token: admin.token, body: { worker_id: WORKER } });
  const { peer_id, token } = answer.body.message as { peer_id: string; token: string };
  expect(answer.text).toBe(JSON.stringify({ error: false, message: { peer_id, token } }));
  expect(peer_id).toBe(organizationId);
  expect(Buffer.from(token, "base64")).toHaveLength(48);
  expect(t.notified).toContain(`registration ${organizationId}/${WORKER}`);
  const { grants } = await authorizeWorker(t.deps, WORKER, [{ peer: peer_id, token }]);
  expect(grants).toMatchObject([{ organizationId, fetch: true, eval: true, build: true }]);

  const listed = await t.ask("GET", "/orgs/myorg/workers", { token: admin.token });
  expect(listed.text).not.toContain("token");
  expect(listed.body.message).toEqual([
    {
      worker_id: WORKER,
      display_name: WORKER,
      registered_at: expect.stringMatching(/\.\d{6}$/),
      active: true,
      url: null,
      created_by: admin.id,
      enable_fetch: true,
      enable_eval: true,
      enable_build: true,
      is_base: false,
      signing_key: null,
      live: null,
    },
  ]);
});

test("a brought token is taken and not told again; what is none is refused", async () => {
  const register = async (body: object) =>
    await t.ask("POST", "/orgs/myorg/workers", {
      token: admin.token,
      body: { worker_id: crypto.randomUUID(), ...body },
    });
  const token = Buffer.alloc(48, 7).toString("base64");
  expect((await register({ token })).body.message).toEqual({ peer_id: organizationId });
  const wrong = [
    { token: Buffer.alloc(47).toString("base64") },
    { token: `${"A".repeat(64)}\n` },
    { worker_id: "550e8400-e29b-11d4-a716-446655440001" },
    { worker_id: "machine-1" },
    { url: "file:///etc" },
    { url: "ws://user:secret@host/proto" },
    { enable_build: "yes" },
  ];
  for (const body of wrong) expect([body, (await register(body)).body.code]).toEqual([body, "validation"]);
  expect((await register({ worker_id: WORKER })).body.code).toBe("already_exists");
});

/** The session of that id measures something: it is shown as live, and over time. */
async function expectMeasured(id: string, live: () => Promise<unknown>): Promise<void> {
  const measured = { cpu_usage_pct: 10, ram_free_mb: 9, disk_speed_mbps: null, network_speed_mbps: 1.5 };
  const others = crypto.randomUUID();
  const sample = {
    ...measured,
    ram_total_mb: 16_384,
    assigned: { [organizationId]: 2, [others]: 7 },
    max_concurrent_builds: 7,
    state: "active" as const,
  };
  await recordWorkerSamples(t.db, [{ connectionId: id, sample }]);
  expect(await live()).toMatchObject({ metrics: { ...measured, ram_total_mb: 16_384 } });
  const history = await t.ask("GET", `/orgs/myorg/workers/${WORKER}/metrics`, { token: admin.token });
  const shown = { at: expect.any(String), ...measured, ram_total_mb: 16_384, max_concurrent_builds: 7 };
  expect(history.body.message).toEqual({
    samples: [{ ...shown, assigned_jobs: 2, state: "active" }],
    connections: [{ id, connected_at: expect.any(String), disconnected_at: null, draining: false }],
    jobs_dispatched: 0,
  });
  const tried = async () => (await t.ask("POST", `/orgs/myorg/workers/${WORKER}/test`, { token: admin.token })).body;
  expect((await tried()).message).toEqual({
    ok: true,
    connected: true,
    authorized_for_org: true,
    message: "connected",
  });
}

test("what a connected worker told of itself is shown as live", async () => {
  const id = crypto.randomUUID();
  const description = {
    capabilities: { fetch: true, eval: false, build: true, sign: true, federate: false },
    groups: [
      { architectures: ["x86_64-linux"], system_features: ["kvm"], max_concurrent_builds: 4 },
      { architectures: ["x86_64-linux", "i686-linux"], system_features: [], max_concurrent_builds: 3 },
    ],
    max_concurrent_evaluations: 1,
    cpu_count: 8,
    ram_total_mb: 16_384,
    draining: false,
  };
  await t.db
    .insertInto("worker_connection")
    .values({ id, worker_id: WORKER, organization_ids: [organizationId], description: JSON.stringify(description) })
    .execute();
  const live = async () => {
    const { body } = await t.ask("GET", "/orgs/myorg/workers", { token: admin.token });
    return (body.message as { worker_id: string; live: unknown }[]).find(({ worker_id }) => worker_id === WORKER)?.live;
  };
  expect(await live()).toEqual({
    capabilities: { core: true, federate: false, fetch: true, eval: false, build: true, sign: true, cache: false },
    architectures: ["x86_64-linux", "i686-linux"],
    system_features: ["kvm"],
    max_concurrent_builds: 7,
    groups: description.groups,
    assigned_job_count: 0,
    draining: false,
    metrics: null,
  });
  await expectMeasured(id, live);
  const ownedBy = async (...ids: string[]) =>
    await t.db.updateTable("worker_connection").set({ organization_ids: ids }).where("id", "=", id).execute();
  await ownedBy(crypto.randomUUID());
  expect(await live(), "a session that another organization let in under the same id").toBeNull();
  await ownedBy(organizationId);
  expect(await live()).not.toBeNull();
  const other = await t.ask("GET", `/orgs/myorg/workers/${crypto.randomUUID()}/metrics`, { token: admin.token });
  expect(other.body.code).toBe("not_found");
  await t.db
    .updateTable("worker_connection")
    .set({ last_seen_at: new Date(0) })
    .where("id", "=", id)
    .execute();
  expect(await live()).toBeNull();
});

test("a registration is changed and removed, and the worker's session is told each time", async () => {
  const path = `/orgs/myorg/workers/${WORKER}`;
  const body = { active: false, display_name: "Builder one", enable_eval: false };
  t.notified.length = 0;
  expect((await t.ask("PATCH", path, { token: admin.token, body })).body.message).toMatchObject(body);
  expect((await t.ask("DELETE", path, { token: admin.token })).status).toBe(200);
  expect(t.notified.filter((line) => line === `registration ${organizationId}/${WORKER}`)).toHaveLength(2);
  expect((await t.ask("DELETE", path, { token: admin.token })).body.code).toBe("not_found");
  expect((await t.ask("PATCH", "/orgs/myorg/workers/7", { token: admin.token, body })).body.code).toBe("validation");
});

test("managing workers takes the permission: mere membership shows them and no more", async () => {
  const member = await t.user("Member");
  const role = { id: crypto.randomUUID(), organization_id: organizationId, name: "watcher", permissions: 1 };
  await t.db.insertInto("role").values(role).execute();
  await t.ask("POST", "/orgs/myorg/users", { token: admin.token, body: { user: "Member", role: "watcher" } });
  expect((await t.ask("GET", "/orgs/myorg/workers", { token: member.token })).status).toBe(200);
  const body = { worker_id: crypto.randomUUID() };
  expect((await t.ask("POST", "/orgs/myorg/workers", { token: member.token, body })).body.code).toBe("forbidden");
  const path = `/orgs/myorg/workers/${WORKER}`;
  expect((await t.ask("PATCH", path, { token: member.token, body: { active: true } })).body.code).toBe("forbidden");
  expect((await t.ask("DELETE", path, { token: member.token })).body.code).toBe("forbidden");
});
