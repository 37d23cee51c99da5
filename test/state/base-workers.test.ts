import { afterAll, beforeAll, expect, test } from "vitest";
import { claimDials } from "#core/db/worker-dials.ts";
import { authorizeWorker, challengeWorker } from "#core/services/worker-auth.ts";
import { dialledAuthority } from "#core/services/worker-dial-auth.ts";
import { type TestApp, type TestUser, withApp } from "#test/handlers/support.ts";
import { apply, BASE_WORKER, changesOf, IDENTITY, type Json, secretFor } from "./support.ts";

let app: TestApp;
let human: TestUser;
let token: string;
const ids: Record<string, string> = {};

const FILE: Json = {
  users: { alice: { email: "alice@example.com" } },
  organizations: { acme: { created_by: "alice", members: [{ user: "human", role: "Admin" }] } },
  workers: {
    shared: {
      worker_id: BASE_WORKER,
      display_name: "Shared",
      token_file: "/run/secrets/shared",
      created_by: "alice",
      base_worker: true,
      organizations: ["acme"],
      authorize_against: IDENTITY,
    },
  },
};

beforeAll(async () => {
  app = await withApp();
  human = await app.user("human");
  token = await secretFor("worker_token", "/run/secrets/shared");
  const body = { name: "own", display_name: "Own", description: "" };
  await app.ask("PUT", "/orgs", { token: human.token, body });
  await apply(app, FILE);
  for (const row of await app.db.selectFrom("organization").select(["id", "name"]).execute()) ids[row.name] = row.id;
});
afterAll(() => app[Symbol.asyncDispose]());

test("it proves itself once, and works for all organizations that want it", async () => {
  expect(await challengeWorker(app.deps, BASE_WORKER)).toEqual({ peers: [IDENTITY] });
  const wrong = await authorizeWorker(app.deps, BASE_WORKER, [{ peer: IDENTITY, token: "wrong" }]);
  expect(wrong).toEqual({ grants: [], failed: [{ peer_id: IDENTITY, reason: "invalid token" }] });
  expect(await grantedNames()).toEqual(["acme"]);

  expect(await listOf("own")).toMatchObject([{ worker_id: BASE_WORKER, is_base: true, active: false, live: null }]);
  const switched = await ask("PATCH", "own", { active: true });
  expect(switched.body.message).toMatchObject({ is_base: true, active: true, display_name: "Shared" });
  expect(await grantedNames()).toEqual(["acme", "own"]);
  expect(changesOf(await apply(app, FILE))).toEqual([]);
});

test("an organization switches it on and off, and changes nothing else of it", async () => {
  expect((await ask("PATCH", "acme", { active: false, display_name: "Mine" })).status).toBe(409);
  expect((await ask("DELETE", "acme")).status).toBe(409);
  expect((await ask("PATCH", "acme", { active: false })).status).toBe(200);
  expect(await grantedNames()).toEqual(["own"]);
  // Listed organizations begin with it; who went without it is not asked again.
  expect(changesOf(await apply(app, FILE))).toEqual([]);
  expect(await grantedNames()).toEqual(["own"]);
});

test("switched off in the file it works for nobody, and on again for those that wanted it", async () => {
  FILE.workers.shared.enabled = false;
  expect(changesOf(await apply(app, FILE))).toEqual([`changed: base worker ${BASE_WORKER}`]);
  expect(await challengeWorker(app.deps, BASE_WORKER)).toHaveProperty("refused");
  FILE.workers.shared.enabled = true;
  FILE.workers.shared.enable_eval = false;
  await apply(app, FILE);
  const { grants } = await authorizeWorker(app.deps, BASE_WORKER, [{ peer: IDENTITY, token }]);
  expect(grants).toEqual([{ organizationId: ids.own, fetch: true, eval: false, build: true }]);
});

test("dialled, it proves itself once, too", async () => {
  FILE.workers.shared.url = "ws://shared.example.com:3100/proto";
  await apply(app, FILE);
  await ask("PATCH", "acme", { active: true });
  const [due] = await claimDials(app.db, { claimMs: 60_000, limit: 10 });
  expect(due).toMatchObject({ workerId: BASE_WORKER, url: "ws://shared.example.com:3100/proto" });
  expect(due?.registrations.map(({ peer }) => peer)).toEqual([IDENTITY, IDENTITY]);

  const context = { workerId: BASE_WORKER, workerNonce: "", serverNonce: "" };
  const authority = dialledAuthority(app.db, Object.values(ids), context);
  expect(await authority.challenge(BASE_WORKER)).toEqual({ peers: [IDENTITY] });
  const refused = await authority.authorize(BASE_WORKER, [{ peer: IDENTITY, token: "wrong" }]);
  expect(refused.grants).toEqual([]);
  FILE.workers.shared.url = null;
  await apply(app, FILE);
  await ask("PATCH", "acme", { active: false });
});

test("an organization's own registration of it goes first", async () => {
  const own = await app.ask("POST", "/orgs/own/workers", {
    token: human.token,
    body: { worker_id: BASE_WORKER, display_name: "Mine" },
  });
  expect(own.status).toBe(200);
  expect(await listOf("own")).toMatchObject([{ display_name: "Mine", is_base: false }]);
  expect(changesOf(await apply(app, FILE))).toEqual([]);
  expect((await ask("DELETE", "own")).status).toBe(200);
  expect(await listOf("own")).toMatchObject([{ display_name: "Shared", is_base: true, active: false }]);
});

test("one that leaves the file is nobody's any more", async () => {
  await ask("PATCH", "own", { active: true });
  const { workers: _, ...rest } = FILE;
  expect(changesOf(await apply(app, rest))).toEqual([`deleted: base worker ${BASE_WORKER}`]);
  expect(await listOf("own")).toEqual([]);
  expect(await challengeWorker(app.deps, BASE_WORKER)).toHaveProperty("refused");
  expect(app.notified).toContain(`registration ${ids.own}/${BASE_WORKER}`);
});

async function grantedNames(): Promise<string[]> {
  const { grants } = await authorizeWorker(app.deps, BASE_WORKER, [{ peer: IDENTITY, token }]);
  const names = grants.map(({ organizationId }) => Object.keys(ids).find((name) => ids[name] === organizationId) ?? "");
  return names.sort();
}

async function ask(method: string, organization: string, body?: Json) {
  return await app.ask(method, `/orgs/${organization}/workers/${BASE_WORKER}`, { token: human.token, body });
}

async function listOf(organization: string): Promise<Json[]> {
  return (await app.ask("GET", `/orgs/${organization}/workers`, { token: human.token })).body.message;
}
