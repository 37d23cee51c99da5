import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { tidyMails } from "#core/services/mail-delivery.ts";
import { PASSWORD, type TestApp, type TestUser, withApp } from "./support.ts";

interface Started {
  readonly device_code: string;
  readonly user_code: string;
  readonly verification_uri: string;
  readonly verification_uri_complete: string;
}

let t: TestApp;
let ada: TestUser;
beforeAll(async () => {
  t = await withApp({ frontendUrl: "https://ui.example.com" });
  ada = await t.user("Ada");
});
afterAll(() => t[Symbol.asyncDispose]());

async function start(): Promise<Started> {
  const headers = { "user-agent": "gradient-cli/1.0", "x-test-peer": "198.51.100.7" };
  const { status, body } = await t.ask("POST", "/auth/cli/start", { headers });
  expect(status).toBe(200);
  return body.message;
}

const poll = (device_code: string) =>
  t.ask("POST", "/auth/cli/poll", { body: { device_code }, headers: { "user-agent": "gradient-cli/1.0" } });
const answer = (word: "authorize" | "deny", user_code: string, token = ada.token) =>
  t.ask("POST", `/auth/cli/${word}`, { token, body: { user_code } });
const info = (user_code: string, token = ada.token) => t.ask("GET", `/auth/cli/info?user_code=${user_code}`, { token });

test("a command line is let in by a person, and has a session of thirty days then", async () => {
  const started = await start();
  expect(started).toMatchObject({
    verification_uri: "https://ui.example.com/account/cli-authorize",
    verification_uri_complete: `https://ui.example.com/account/cli-authorize?code=${started.user_code}`,
    expires_in: 600,
    interval: 3,
  });
  const pending = await poll(started.device_code);
  expect([pending.status, pending.body.code]).toEqual([400, "cli_auth_pending"]);
  expect((await info(started.user_code.toLowerCase())).body.message).toEqual({
    user_code: started.user_code,
    user_agent: "gradient-cli/1.0",
    ip: "198.51.100.7",
    expires_at: expect.stringMatching(/^\d{4}-.*\+00:00$/),
  });

  expect((await answer("authorize", started.user_code)).status).toBe(200);
  const { body } = await poll(started.device_code);

  const token: string = body.message;
  expect((await t.ask("GET", "/user", { token })).body.message).toMatchObject({ username: "Ada" });
  const claims = JSON.parse(atob(token.split(".")[1] as string));
  expect(claims.exp - claims.iat).toBe(30 * 86_400);
  const again = await poll(started.device_code);
  expect([again.status, again.body.code]).toEqual([400, "cli_auth_expired"]);
  expect((await info(started.user_code)).status).toBe(404);
  const sessions = (await t.ask("GET", "/user/sessions", { token })).body.message as unknown[];
  expect(sessions).toContainEqual(
    expect.objectContaining({ id: claims.jti, user_agent: "gradient-cli/1.0", remember_me: true, current: true }),
  );
});

test("of several polls at the same moment one gets the session", async () => {
  const { device_code, user_code } = await start();
  await answer("authorize", user_code);

  const answers = await Promise.all(Array.from({ length: 8 }, () => poll(device_code)));

  expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
  expect(new Set(answers.filter(({ status }) => status !== 200).map(({ body }) => body.code))).toEqual(
    new Set(["cli_auth_expired"]),
  );
});

test("the first answer counts, of two people or of one who changes their mind", async () => {
  const { device_code, user_code } = await start();
  expect((await answer("deny", user_code)).status).toBe(200);
  expect((await answer("authorize", user_code)).status).toBe(404);
  const denied = await poll(device_code);
  expect([denied.status, denied.body.code]).toEqual([400, "cli_auth_denied"]);

  const raced = await start();
  const bob = await t.user("Bob");
  const answers = await Promise.all([
    answer("authorize", raced.user_code),
    answer("authorize", raced.user_code, bob.token),
  ]);
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 404]);
  const { body } = await poll(raced.device_code);
  const winner = answers[0]?.status === 200 ? "Ada" : "Bob";
  expect((await t.ask("GET", "/user", { token: body.message })).body.message).toMatchObject({ username: winner });
});

test("a code that is too old, unknown or malformed lets nobody in", async () => {
  const { device_code, user_code } = await start();
  await answer("authorize", user_code);
  await t.db.updateTable("device_login").set({ expires_at: sql`gradient_now()` }).execute();
  const expired = await poll(device_code);
  expect([expired.status, expired.body.code]).toEqual([400, "cli_auth_expired"]);
  const late = await start();
  await t.db.updateTable("device_login").set({ expires_at: sql`gradient_now()` }).execute();
  for (const code of [late.user_code, "ABCD-2345", "x", "", "A".repeat(500)]) {
    expect([code, (await info(code)).status, (await answer("authorize", code)).status]).toEqual([code, 404, 404]);
  }
  expect((await poll("x")).status).toBe(404);

  await t.db.updateTable("device_login").set({ expires_at: sql`gradient_now() - interval '2 hours'` }).execute();
  await tidyMails(t.deps, new AbortController().signal);
  expect(await t.db.selectFrom("device_login").select("id").execute()).toEqual([]);
});

test("an API key lets no device in, and nobody does who is not signed in", async () => {
  const { device_code, user_code } = await start();
  const made = await t.ask("POST", "/user/keys", {
    token: ada.token,
    body: { name: "ci", permissions: ["viewOrg"] },
  });
  const key: string = made.body.message;
  expect((await answer("authorize", user_code, key)).status).toBe(403);
  expect((await answer("deny", user_code, key)).status).toBe(403);
  expect((await info(user_code, key)).status).toBe(403);
  expect((await t.ask("POST", "/auth/cli/authorize", { body: { user_code } })).status).toBe(401);
  expect((await poll(device_code)).body.code).toBe("cli_auth_pending");
});

test("who is deactivated or deleted before the device asks has let nobody in", async () => {
  const carol = await t.user("Carol");
  const one = await start();
  await answer("authorize", one.user_code, carol.token);
  await t.db.updateTable("user_account").set({ active: false }).where("id", "=", carol.id).execute();
  expect((await poll(one.device_code)).status).toBe(403);
  await t.db.deleteFrom("user_account").where("id", "=", carol.id).execute();
  expect((await poll(one.device_code)).status).toBe(404);
});

test("no row holds the code that the device asks with, and each step is in the audit log", async () => {
  const { device_code, user_code } = await start();
  expect(JSON.stringify(await t.db.selectFrom("device_login").selectAll().execute())).not.toContain(device_code);
  await answer("authorize", user_code);
  await poll(device_code);
  const { body } = await t.ask("GET", "/user/audit-log", { token: ada.token });
  const { items } = body.message as { items: { event: string; metadata: object }[] };
  expect(items.slice(0, 2)).toMatchObject([
    { event: "login.success", metadata: { method: "device" } },
    { event: "cli.device.authorize", metadata: { device_ip: "198.51.100.7" } },
  ]);
});

test("devices that wait have an end", async () => {
  const codes = sql`
    insert into device_login (id, device_code_hash, user_code, ip, expires_at)
    select gen_random_uuid(), sha256(n::text::bytea), n::text, '::1', gradient_now() + interval '1 minute'
    from generate_series(1, 10000) n`;
  await codes.execute(t.db);
  const full = await t.ask("POST", "/auth/cli/start");
  expect([full.status, full.body.code]).toEqual([503, "service_unavailable"]);
  await t.db.deleteFrom("device_login").execute();
  await start();
});

test("who ends other sessions shuts out a device that one of them let in and that has not asked yet", async () => {
  const grace = await t.user("Grace");
  for (const end of ["all", "one"]) {
    const intruder = (await t.ask("POST", "/auth/basic/login", { body: { loginname: "Grace", password: PASSWORD } }))
      .body.message;
    const started = await start();
    expect((await answer("authorize", started.user_code, intruder)).status).toBe(200);
    const { body } = await t.ask("GET", "/user/sessions", { token: intruder });
    const sessions: readonly { id: string; current: boolean }[] = body.message;
    const id = sessions.find(({ current }) => current)?.id;
    const path = end === "all" ? "/user/sessions" : `/user/sessions/${id}`;
    expect((await t.ask("DELETE", path, { token: grace.token })).status).toBe(200);
    expect([end, (await poll(started.device_code)).status]).toEqual([end, 404]);
  }
});
