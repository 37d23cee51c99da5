import { afterAll, beforeAll, expect, test } from "vitest";
import type { IntegrationView } from "#core/api/integrations.ts";
import { fromUtf8 } from "#core/lib/bytes.ts";
import { integrationPlace } from "#core/services/integrations.ts";
import { webhookSecretPlace } from "#core/services/webhook-secret.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let t: TestApp;
let admin: TestUser;
let outsider: TestUser;
let organizationId: string;
beforeAll(async () => {
  t = await withApp();
  admin = await t.user("Admina");
  outsider = await t.user("Outsider");
  const body = { name: "guild", display_name: "Guild" };
  organizationId = (await t.ask("PUT", "/orgs", { token: admin.token, body })).body.message;
});
afterAll(() => t[Symbol.asyncDispose]());

const ask = (method: string, path: string, body?: object, by = admin) =>
  t.ask(method, `/orgs/guild${path}`, { token: by.token, ...(body && { body }) });
const create = (body: object) =>
  ask("PUT", "/integrations", { name: "forge", kind: "inbound", forge_type: "gitea", ...body });

test("an integration is kept with its secrets sealed, and they are never shown", async () => {
  const made = await create({
    name: "our-gitea",
    secret: "hook secret",
    access_token: "forge token",
    endpoint_url: "https://git.example.com/",
    allowed_ips: ["192.0.2.7"],
  });
  const id = made.body.message as string;
  const shown = await ask("GET", `/integrations/${id}`);
  expect(shown.body.message).toEqual({
    id,
    organization: organizationId,
    name: "our-gitea",
    display_name: "our-gitea",
    kind: "inbound",
    forge_type: "gitea",
    endpoint_url: "https://git.example.com",
    has_secret: true,
    has_access_token: true,
    allowed_ips: ["192.0.2.7/32"],
    installation_id: null,
    account_login: null,
    managed: false,
    created_by: admin.id,
    created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$/),
  });
  expect((await ask("GET", "/integrations")).body.message).toEqual([shown.body.message]);
  expect((await ask("GET", "/integrations/summary")).body.message).toEqual([
    { id, name: "our-gitea", display_name: "our-gitea", kind: "inbound", forge_type: "gitea" },
  ]);
  const row = await t.db.selectFrom("integration").selectAll().where("id", "=", id).executeTakeFirstOrThrow();
  for (const column of ["secret", "access_token"] as const) {
    const opened = fromUtf8(await t.deps.secrets.open(integrationPlace(id, column), row[column] as Uint8Array));
    expect(opened).toBe(column === "secret" ? "hook secret" : "forge token");
    expect(Buffer.from(row[column] as Uint8Array).toString("latin1")).not.toContain(opened);
  }
});

test("what is not given stays, what is empty is taken away", async () => {
  const id = (await create({ name: "changing", secret: "s", allowed_ips: ["10.0.0.0/8"] })).body.message as string;
  const change = async (body: object) =>
    (await ask("PATCH", `/integrations/${id}`, body)).body.message as IntegrationView;
  expect(await change({ name: "changed", forge_type: "gitlab" })).toMatchObject({
    name: "changed",
    forge_type: "gitlab",
    has_secret: true,
    allowed_ips: ["10.0.0.0/8"],
  });
  expect(await change({ secret: "", allowed_ips: [], access_token: "t" })).toMatchObject({
    has_secret: false,
    has_access_token: true,
    allowed_ips: [],
  });
  expect(await change({ access_token: null, endpoint_url: "http://git.example.com" })).toMatchObject({
    has_access_token: false,
    endpoint_url: "http://git.example.com",
  });
  expect((await ask("DELETE", `/integrations/${id}`)).body.message).toBe(true);
  expect((await ask("DELETE", `/integrations/${id}`)).status).toBe(404);
});

test("what an integration cannot be is refused with the reason", async () => {
  await create({ name: "twice" });
  const code = async (body: object) => (await create(body)).body.code;
  expect(await code({ name: "twice" })).toBe("already_exists");
  expect(await code({ name: "twice", kind: "outbound" })).toBeUndefined();
  expect(await code({ name: "Not a name" })).toBe("invalid_name");
  expect(await code({ name: "n", kind: "sideways" })).toBe("validation");
  expect(await code({ name: "n", forge_type: "cvs" })).toBe("validation");
  expect(await code({ name: "n", display_name: "" })).toBe("invalid_name");
  expect(await code({ name: "n", allowed_ips: ["everywhere"] })).toBe("invalid_allowed_ip");
  expect(await code({ name: "n", endpoint_url: "ftp://git.example.com" })).toBe("validation");
  expect(await code({ name: "n", endpoint_url: "https://me:pw@git.example.com" })).toBe("validation");
  const github = await create({ name: "n", forge_type: "github", installation_id: 7 });
  expect([github.status, github.body.code]).toEqual([400, "bad_request"]);
  expect(github.text).toContain("GitHub App");
  const id = (await create({ name: "plain" })).body.message as string;
  expect((await ask("PATCH", `/integrations/${id}`, { forge_type: "github" })).body.code).toBe("bad_request");
  expect((await ask("PATCH", `/integrations/${id}`, { name: "twice" })).body.code).toBe("already_exists");
  expect((await ask("GET", "/integrations/not-an-id")).body.code).toBe("validation");
});

test("integrations are for members who may manage them, and another organization's are not there", async () => {
  const id = (await create({ name: "private" })).body.message as string;
  const body = { name: "elsewhere", display_name: "Elsewhere" };
  await t.ask("PUT", "/orgs", { token: admin.token, body });
  const foreign = await t.ask("GET", `/orgs/elsewhere/integrations/${id}`, { token: admin.token });
  expect([foreign.status, foreign.body.code]).toEqual([404, "not_found"]);
  const hidden = await ask("GET", `/integrations/${id}`, undefined, outsider);
  expect(hidden.text).toBe((await t.ask("GET", `/orgs/no-such/integrations/${id}`, { token: outsider.token })).text);
  const role = { name: "looker", permissions: ["viewOrg"] };
  await ask("POST", "/roles", role);
  await ask("POST", "/users", { user: "Outsider", role: "looker" });
  expect((await ask("GET", "/integrations", undefined, outsider)).status).toBe(403);
  expect((await ask("DELETE", `/integrations/${id}`, undefined, outsider)).status).toBe(403);
  expect((await ask("GET", "/integrations/summary", undefined, outsider)).status).toBe(200);

  await t.db.updateTable("integration").set({ managed: true }).where("id", "=", id).execute();
  expect((await ask("PATCH", `/integrations/${id}`, { display_name: "Mine" })).status).toBe(403);
  expect((await ask("DELETE", `/integrations/${id}`)).status).toBe(403);
});

test("both rows of a GitHub App go together", async () => {
  const row = { organization_id: organizationId, forge_type: 3, name: "github-acme", display_name: "GitHub" };
  const ids = [0, 1].map((kind) => ({ id: crypto.randomUUID(), kind, installation_id: 2 ** 40 }));
  for (const pair of ids)
    await t.db
      .insertInto("integration")
      .values({ ...row, ...pair })
      .execute();
  const [first] = ids;
  expect((await ask("GET", `/integrations/${first?.id}`)).body.message).toMatchObject({ installation_id: 2 ** 40 });
  expect((await ask("PATCH", `/integrations/${first?.id}`, { display_name: "x" })).status).toBe(400);
  expect((await ask("DELETE", `/integrations/${first?.id}`)).status).toBe(200);
  const left = await t.db.selectFrom("integration").select("id").where("name", "=", "github-acme").execute();
  expect(left).toEqual([]);
});

test("an organization has a webhook secret of its own, which is shown once and sealed", async () => {
  const path = "/forge-webhook-secret";
  expect((await ask("GET", path)).body.message).toMatchObject({ has_secret: false });
  const { body } = await ask("POST", path);
  const made = body.message as { secret: string };
  expect(made).toEqual({
    secret: expect.stringMatching(/^[0-9a-f]{64}$/),
    webhook_url: "https://ci.example.com/api/v1/hooks/gitea/guild",
    webhook_urls: {
      gitea: "https://ci.example.com/api/v1/hooks/gitea/guild",
      forgejo: "https://ci.example.com/api/v1/hooks/forgejo/guild",
      gitlab: "https://ci.example.com/api/v1/hooks/gitlab/guild",
      github: "https://ci.example.com/api/v1/hooks/github/guild",
    },
  });
  const row = await t.db
    .selectFrom("organization")
    .select("webhook_secret")
    .where("id", "=", organizationId)
    .executeTakeFirstOrThrow();
  const opened = await t.deps.secrets.open(webhookSecretPlace(organizationId), row.webhook_secret as Uint8Array);
  expect(fromUtf8(opened)).toBe(made.secret);
  const state = await ask("GET", path);
  expect(state.body.message).toMatchObject({ has_secret: true });
  expect(state.text).not.toContain(made.secret);
  expect((await t.ask("GET", "/orgs/guild", { token: admin.token })).text).not.toContain("webhook");
  expect((await ask("DELETE", path)).status).toBe(200);
  expect((await ask("GET", path)).body.message).toMatchObject({ has_secret: false });
  const stranger = await t.user("Stranger");
  expect((await ask("POST", path, undefined, stranger)).status).toBe(404);
});
