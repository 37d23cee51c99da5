import { afterAll, beforeAll, expect, test } from "vitest";
import { isDraining } from "#core/db/scheduler-state.ts";
import { createApp } from "#handlers/app.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let app: TestApp;
let root: TestUser;
beforeAll(async () => {
  app = await withApp();
  root = await app.user("rhea", { superuser: true });
});
afterAll(() => app[Symbol.asyncDispose]());

test("a superuser has the instance drain, and every server is told", async () => {
  app.notified.length = 0;
  const drain = (enabled: unknown) => app.ask("POST", "/admin/draining", { token: root.token, body: { enabled } });
  expect((await drain(true)).body.message).toEqual({ draining: true });
  expect(await isDraining(app.db)).toBe(true);
  expect((await drain(true)).body.message).toEqual({ draining: true });
  expect(app.notified).toHaveLength(1);
  expect((await drain(false)).body.message).toEqual({ draining: false });
  expect(await isDraining(app.db)).toBe(false);
  expect((await drain("yes")).body.code).toBe("validation");
});

test("nobody else does, and no key of a superuser", async () => {
  const user = await app.user("ursula");
  const drain = (token?: string) =>
    app.ask("POST", "/admin/draining", { ...(token && { token }), body: { enabled: true } });
  expect((await drain()).status).toBe(401);
  expect([(await drain(user.token)).status, (await drain(user.token)).body.code]).toEqual([403, "superuser_required"]);
  const key = await app.ask("POST", "/user/keys", {
    token: root.token,
    body: { name: "k", permissions: ["viewOrg"] },
  });
  expect((await drain(key.body.message)).body.code).toBe("superuser_required");
  expect(await isDraining(app.db)).toBe(false);
});

test("superusers see every connected worker, and for whom it works", async () => {
  const organization = crypto.randomUUID();
  const worker = await connectWorker([organization]);
  const gone = await connectWorker([organization]);
  await app.db
    .updateTable("worker_connection")
    .set({ disconnected_at: new Date() })
    .where("worker_id", "=", gone)
    .execute();

  expect((await app.ask("GET", "/admin/workers", { token: root.token })).body.message).toEqual([
    {
      worker_id: worker,
      connected_at: expect.stringMatching(/\.\d{6}$/),
      organizations: [organization],
      capabilities: { core: true, federate: false, fetch: true, eval: false, build: true, sign: false, cache: false },
      architectures: ["x86_64-linux"],
      system_features: [],
      max_concurrent_builds: 4,
      groups: [{ architectures: ["x86_64-linux"], system_features: [], max_concurrent_builds: 4 }],
      assigned_job_count: 0,
      draining: false,
      metrics: null,
    },
  ]);
});

test("GRADIENT_GLOBAL_STATS_PUBLIC: everybody who is signed in sees the workers, but not whose they are", async () => {
  const { token } = await app.user("curious");
  const ask = async (globalStatsPublic: boolean, headers: Record<string, string>) => {
    const open = createApp({ ...app.deps, settings: { ...app.deps.settings, globalStatsPublic } });
    const response = await open.request("/api/v1/admin/workers", { headers });
    return { status: response.status, body: (await response.json()) as { message: { organizations: unknown }[] } };
  };
  const signedIn = { authorization: `Bearer ${token}` };

  expect((await ask(false, signedIn)).status).toBe(403);
  expect((await ask(true, {})).status).toBe(401);
  const seen = await ask(true, signedIn);
  expect(seen.status).toBe(200);
  expect(seen.body.message.map(({ organizations }) => organizations)).toEqual([null]);
});

async function connectWorker(organizationIds: string[]): Promise<string> {
  const worker_id = crypto.randomUUID();
  const description = {
    capabilities: { fetch: true, eval: false, build: true, sign: false, federate: false },
    groups: [{ architectures: ["x86_64-linux"], system_features: [], max_concurrent_builds: 4 }],
    max_concurrent_evaluations: 1,
    cpu_count: 8,
    ram_total_mb: 16_384,
    draining: false,
  };
  const values = { id: crypto.randomUUID(), worker_id, organization_ids: organizationIds };
  await app.db
    .insertInto("worker_connection")
    .values({ ...values, description: JSON.stringify(description) })
    .execute();
  return worker_id;
}
