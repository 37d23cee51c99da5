import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { fromUtf8 } from "#core/lib/bytes.ts";
import { deleteBuriedOrganizations } from "#core/services/organization-deletion.ts";
import {
  insertAttempt,
  insertBuild,
  insertEntryPoint,
  insertEvaluationRow,
  insertProjectRow,
  linkBuild,
} from "#test/support/rows.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let t: TestApp;
let admin: TestUser;
let viewer: TestUser;
let stranger: TestUser;
beforeAll(async () => {
  t = await withApp();
  admin = await t.user("Admina");
  viewer = await t.user("Viewer");
  stranger = await t.user("Stranger");
  await createOrg("hidden");
  await t.ask("POST", "/orgs/hidden/users", { token: admin.token, body: { user: "Viewer", role: "View" } });
});
afterAll(() => t[Symbol.asyncDispose]());

async function createOrg(name: string, more: object = {}): Promise<string> {
  const body = { name, display_name: "An Org", description: "what it is for", ...more };
  const answer = await t.ask("PUT", "/orgs", { token: admin.token, body });
  expect([name, answer.status]).toEqual([name, 200]);
  return answer.body.message;
}

test("an organization comes with an SSH key, an internal store and its creator as Admin", async () => {
  const id = await createOrg("fresh");
  const { body } = await t.ask("GET", "/orgs/fresh", { token: admin.token });
  expect(body.message).toEqual({
    id,
    name: "fresh",
    display_name: "An Org",
    description: "what it is for",
    public_key: expect.stringMatching(/^ssh-ed25519 [A-Za-z0-9+/]{68} ci\.example\.com-fresh$/),
    public: false,
    hide_build_requests: false,
    managed: false,
    created_by: admin.id,
    created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$/),
    github_app_available: false,
    role: "Admin",
  });
  const stores = await t.db
    .selectFrom("cache")
    .innerJoin("cache_key", "cache_key.cache_id", "cache.id")
    .select(["kind", "cache.name", "public_key"])
    .where("organization_id", "=", id)
    .execute();
  expect(stores).toMatchObject([{ kind: 1, name: null, public_key: expect.stringMatching(/^ci\.example\.com-/) }]);
});

test("the SSH key is one that OpenSSH takes, is sealed at rest, and is replaced on request", async () => {
  const id = await createOrg("ssh-org");
  const before = (await t.ask("GET", "/orgs/ssh-org/ssh", { token: admin.token })).body.message as string;
  const row = await t.db.selectFrom("organization").selectAll().where("id", "=", id).executeTakeFirstOrThrow();
  expect(Buffer.from(row.ssh_secret_key).toString("latin1")).not.toContain("OPENSSH");
  const place = { table: "organization", column: "ssh_secret_key", id };
  const secretKey = fromUtf8(await t.deps.secrets.open(place, row.ssh_secret_key));
  const folder = await mkdtemp(join(tmpdir(), "gradient-ssh-"));
  try {
    await writeFile(join(folder, "key"), secretKey, { mode: 0o600 });
    const derived = execFileSync("ssh-keygen", ["-y", "-f", join(folder, "key")], { encoding: "utf8" });
    expect(derived.trim()).toBe(before);
  } finally {
    await rm(folder, { recursive: true });
  }
  const after = (await t.ask("POST", "/orgs/ssh-org/ssh", { token: admin.token })).body.message as string;
  expect(after).not.toBe(before);
  expect((await t.ask("GET", "/orgs/ssh-org/ssh", { token: admin.token })).body.message).toBe(after);
});

test("what one may not see is, byte for byte, what does not exist", async () => {
  const requests: [string, string, unknown?][] = [
    ["GET", ""],
    ["PATCH", "", { description: "x" }],
    ["DELETE", ""],
    ["POST", "/public"],
    ["GET", "/users"],
    ["POST", "/users", { user: "Stranger", role: "Admin" }],
    ["DELETE", "/users", { user: "Viewer" }],
    ["GET", "/ssh"],
    ["POST", "/ssh"],
    ["GET", "/subscribe"],
    ["POST", "/subscribe/some-cache"],
    ["GET", "/workers"],
    ["POST", "/workers", { worker_id: "550e8400-e29b-41d4-a716-446655440001" }],
    ["DELETE", "/workers/550e8400-e29b-41d4-a716-446655440001"],
  ];
  for (const [method, path, body] of requests) {
    const options = { token: stranger.token, ...(body === undefined ? {} : { body }) };
    const forbidden = await t.ask(method, `/orgs/hidden${path}`, options);
    const unknown = await t.ask(method, `/orgs/unknown${path}`, options);
    expect([method, path, forbidden.status, forbidden.text]).toEqual([method, path, 404, unknown.text]);
    const malformed = await t.ask(method, `/orgs/%00${path}`, options);
    expect([method, path, malformed.text]).toEqual([method, path, unknown.text]);
  }
  expect((await t.ask("GET", "/orgs/hidden")).text).toBe((await t.ask("GET", "/orgs/unknown")).text);
  expect((await t.ask("PATCH", "/orgs/hidden", { body: "{" })).status).toBe(401);
});

test("a member without the permission is told so, and the thing stays as it was", async () => {
  const token = viewer.token;
  expect((await t.ask("GET", "/orgs/hidden", { token })).body.message).toMatchObject({ role: "View" });
  expect((await t.ask("PATCH", "/orgs/hidden", { token, body: { description: "mine" } })).body.code).toBe("forbidden");
  expect((await t.ask("DELETE", "/orgs/hidden", { token })).body.code).toBe("forbidden");
  expect((await t.ask("POST", "/orgs/hidden/users", { token, body: { user: "Stranger", role: "View" } })).status).toBe(
    403,
  );
  expect((await t.ask("GET", "/orgs/hidden", { token })).body.message).toMatchObject({ description: "what it is for" });
});

test("a public organization is read by everyone, without its secrets, and changed by its members only", async () => {
  await createOrg("open");
  expect((await t.ask("POST", "/orgs/open/public", { token: admin.token })).status).toBe(200);
  expect((await t.ask("GET", "/orgs/open")).body.message).toMatchObject({ name: "open", public: true, role: null });
  const listed = await t.ask("GET", "/orgs/public");
  expect(listed.body.message).toMatchObject({ total: 1, page: 1, per_page: 50, items: [{ name: "open" }] });
  expect(listed.text).not.toContain("secret");
  expect((await t.ask("PATCH", "/orgs/open", { token: stranger.token, body: { description: "x" } })).status).toBe(404);
  await t.ask("DELETE", "/orgs/open/public", { token: admin.token });
  expect((await t.ask("GET", "/orgs/open")).status).toBe(404);
});

test("an organization is renamed, changed and deleted; its name is free again afterwards", async () => {
  await createOrg("old-name");
  const token = admin.token;
  expect((await t.ask("PATCH", "/orgs/old-name", { token, body: { name: "hidden" } })).body.code).toBe(
    "already_exists",
  );
  const body = { name: "new-name", display_name: "New", description: "d", hide_build_requests: true, unknown: 1 };
  expect((await t.ask("PATCH", "/orgs/old-name", { token, body })).status).toBe(200);
  expect((await t.ask("GET", "/orgs/old-name", { token })).status).toBe(404);
  expect((await t.ask("GET", "/orgs/new-name", { token })).body.message).toMatchObject({ hide_build_requests: true });
  const free = async (name: string) => (await t.ask("GET", `/orgs/available?name=${name}`, { token })).body.message;
  expect(await free("new-name")).toBe(false);
  expect((await t.ask("DELETE", "/orgs/new-name", { token })).status).toBe(200);
  expect(await free("new-name")).toBe(true);
  expect(await free("Not%20a%20name")).toBe(false);
  expect(await free("available")).toBe(false);
});

test("the last Admin stays, and nobody grants or takes more than they hold", async () => {
  await createOrg("council");
  const token = admin.token;
  const members = async (method: string, body: unknown, by = token) =>
    (await t.ask(method, "/orgs/council/users", { token: by, body })).body.code;
  expect(await members("DELETE", { user: "Admina" })).toBe("conflict");
  expect(await members("PATCH", { user: "Admina", role: "View" })).toBe("conflict");
  expect(await members("POST", { user: "Viewer", role: "Nonsense" })).toBe("not_found");
  expect(await members("POST", { user: "Nobody", role: "View" })).toBe("not_found");
  expect(await members("PATCH", { user: "Viewer", role: "View" })).toBe("bad_request");
  expect(await members("POST", { user: "Viewer", role: "View" })).toBeUndefined();
  expect(await members("POST", { user: "Viewer", role: "View" })).toBe("conflict");

  const { id } = (await t.ask("GET", "/orgs/council", { token })).body.message as { id: string };
  const role = { id: crypto.randomUUID(), organization_id: id, name: "recruiter", permissions: 0b1001 };
  await t.db.insertInto("role").values(role).execute();
  expect(await members("PATCH", { user: "Viewer", role: "recruiter" })).toBeUndefined();
  expect(await members("PATCH", { user: "Viewer", role: "Admin" }, viewer.token)).toBe("forbidden");
  expect(await members("POST", { user: "Stranger", role: "View" }, viewer.token)).toBe("forbidden");
  expect(await members("DELETE", { user: "Admina" }, viewer.token)).toBe("forbidden");
  expect(await members("POST", { user: "Stranger", role: "recruiter" }, viewer.token)).toBeUndefined();

  expect(await members("PATCH", { user: "Viewer", role: "Admin" })).toBeUndefined();
  expect(await members("PATCH", { user: "Admina", role: "Write" })).toBeUndefined();
  expect((await t.ask("GET", "/orgs/council/users", { token })).body.message).toEqual([
    { id: "Admina", name: "Write" },
    { id: "Stranger", name: "recruiter" },
    { id: "Viewer", name: "Admin" },
  ]);
});

test("two Admins who remove each other at once leave one", async () => {
  for (const round of [1, 2, 3, 4, 5]) {
    const path = `/orgs/duel-${round}/users`;
    await createOrg(`duel-${round}`);
    await t.ask("POST", path, { token: admin.token, body: { user: "Viewer", role: "Admin" } });
    const removals = await Promise.all([
      t.ask("DELETE", path, { token: admin.token, body: { user: "Viewer" } }),
      t.ask("DELETE", path, { token: viewer.token, body: { user: "Admina" } }),
    ]);
    expect(removals.filter(({ status }) => status === 200)).toHaveLength(1);
  }
});

test("who may create organizations is the operator's choice", async () => {
  const body = { name: "gated", display_name: "Gated" };
  await using none = await withApp({ createOrganization: "none" });
  const root = await none.user("Root1", { superuser: true });
  expect((await none.ask("PUT", "/orgs", { token: root.token, body })).body.code).toBe("creation_disabled");
  await using superusers = await withApp({ createOrganization: "superusers" });
  const user = await superusers.user("Plain");
  const boss = await superusers.user("Boss", { superuser: true });
  expect((await superusers.ask("PUT", "/orgs", { token: user.token, body })).body.code).toBe("superuser_required");
  expect((await superusers.ask("PUT", "/orgs", { token: boss.token, body })).status).toBe(200);
  expect((await superusers.ask("GET", "/orgs/gated", { token: user.token })).status).toBe(404);
});

test("one's organizations come in pages, by name, with the role and what runs", async () => {
  const user = await t.user("Pager");
  for (const name of ["page-b", "page-a", "page-c"]) {
    await t.ask("PUT", "/orgs", { token: user.token, body: { name, display_name: name } });
  }
  const page = await t.ask("GET", "/orgs?page=2&per_page=2", { token: user.token });
  expect(page.body.message).toMatchObject({
    total: 3,
    page: 2,
    per_page: 2,
    items: [{ name: "page-c", role: "Admin", running_evaluations: 0 }],
  });
  expect((await t.ask("GET", "/orgs?page=0&per_page=9999", { token: user.token })).body.message).toMatchObject({
    page: 1,
    per_page: 100,
  });
});

test("what the configuration declares is not changed here", async () => {
  const id = await createOrg("declared");
  await t.db.updateTable("organization").set({ managed: true }).where("id", "=", id).execute();
  const token = admin.token;
  expect((await t.ask("PATCH", "/orgs/declared", { token, body: { description: "x" } })).body.code).toBe("forbidden");
  expect((await t.ask("DELETE", "/orgs/declared", { token })).body.code).toBe("forbidden");
  expect((await t.ask("GET", "/orgs/declared/workers", { token })).status).toBe(200);
});

test("deleting an organization takes everything in it along, what runs included, and tells its workers", async () => {
  const id = await createOrg("doomed");
  const worker_id = crypto.randomUUID();
  await t.ask("POST", "/orgs/doomed/workers", { token: admin.token, body: { worker_id } });
  const evaluation = await insertEvaluationRow(t.db, {
    organizationId: id,
    projectId: await insertProjectRow(t.db, { organizationId: id }),
  });
  const dependency = await insertBuild(t.db, { organizationId: id, name: "dependency" });
  const build = await insertBuild(t.db, { organizationId: id, name: "top", needs: [dependency] });
  const attemptId = await insertAttempt(t.db, { organizationId: id, buildId: build });
  await linkBuild(t.db, evaluation, build, { attemptId });
  await insertEntryPoint(t.db, evaluation, build, ["packages", "top"]);
  t.notified.length = 0;
  expect((await t.ask("DELETE", "/orgs/doomed", { token: admin.token })).status).toBe(200);
  expect(t.notified).toContain(`registration ${id}/${worker_id}`);
  for (const table of ["project", "evaluation", "build", "attempt", "cache", "worker_registration"] as const) {
    const left = await t.db.selectFrom(table).select("id").where("organization_id", "=", id).execute();
    expect([table, left]).toEqual([table, []]);
  }
});

test("of a large organization nobody sees anything from the moment of its deletion; its rows go in parts", async () => {
  const id = await createOrg("crowd");
  const token = admin.token;
  const worker_id = crypto.randomUUID();
  await t.ask("POST", "/orgs/crowd/workers", { token, body: { worker_id } });
  await t.ask("POST", "/orgs/crowd/users", { token, body: { user: "Viewer", role: "View" } });
  await t.ask("PUT", "/orgs/crowd/integrations", { token, body: { name: "f", kind: "inbound", forge_type: "gitea" } });
  const projectId = await insertProjectRow(t.db, { organizationId: id, managed: true });
  const evaluation = await insertEvaluationRow(t.db, { organizationId: id, projectId });
  await sql`
    insert into build (id, organization_id, drv_path, name, system, status)
    select gen_random_uuid(), ${id}, lpad(n::text, 32, '0') || '-crowd.drv', 'crowd', 'x86_64-linux', 3
    from generate_series(1, 3001) n`.execute(t.db);
  await sql`
    insert into evaluation_build (id, evaluation_id, build_id)
    select gen_random_uuid(), ${evaluation}, id from build where organization_id = ${id}`.execute(t.db);
  t.notified.length = 0;
  expect((await t.ask("DELETE", "/orgs/crowd", { token })).status).toBe(200);
  expect(t.notified).toContain(`registration ${id}/${worker_id}`);
  const left = async (table: "build" | "evaluation" | "project" | "worker_registration" | "integration") =>
    (await t.db.selectFrom(table).select("id").where("organization_id", "=", id).execute()).length;
  expect([await left("build"), await left("worker_registration"), await left("integration")]).toEqual([3001, 0, 0]);
  for (const name of ["crowd", `deleted%20${id}`, `deleted-${id}`]) {
    for (const user of [admin, viewer]) {
      expect((await t.ask("GET", `/orgs/${name}`, { token: user.token })).status).toBe(404);
      expect((await t.ask("GET", `/evals/${evaluation}`, { token: user.token })).status).toBe(404);
    }
  }
  expect((await t.ask("GET", "/orgs?per_page=100", { token })).text).not.toContain(id);
  const row = await t.db.selectFrom("organization").selectAll().where("id", "=", id).executeTakeFirstOrThrow();
  expect([row.public, row.managed, row.ssh_secret_key.length]).toEqual([false, false, 0]);
  await createOrg("crowd");

  await deleteBuriedOrganizations(t.db, new AbortController().signal);
  expect([await left("build"), await left("evaluation"), await left("project")]).toEqual([0, 0, 0]);
  expect(await t.db.selectFrom("organization").select("id").where("id", "=", id).execute()).toEqual([]);
  expect((await t.ask("GET", "/orgs/crowd", { token })).status).toBe(200);
});
