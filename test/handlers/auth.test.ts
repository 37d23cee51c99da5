import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { utf8 } from "#core/lib/bytes.ts";
import { signSessionToken } from "#core/services/session-token.ts";
import { signIn } from "#core/services/sign-in.ts";
import { PASSWORD, type TestApp, withApp } from "./support.ts";

const CLIENT = { address: "127.0.0.1", userAgent: "test" };

let t: TestApp;
beforeAll(async () => {
  t = await withApp();
});
afterAll(() => t[Symbol.asyncDispose]());

async function login(loginname: string, password = PASSWORD, remember_me = false) {
  return await t.ask("POST", "/auth/basic/login", { body: { loginname, password, remember_me } });
}

test("who registers can sign in by name and by address, is nobody's superuser, and signs out for good", async () => {
  const account = { username: "Ada", name: "Ada L.", email: "ada@example.com", password: PASSWORD };
  const registered = await t.ask("POST", "/auth/basic/register", { body: account });
  expect(registered.status).toBe(200);
  for (const name of ["ada", "Ada", "ADA@example.com"]) expect((await login(name)).status).toBe(200);

  const { body, headers } = await login("Ada");
  const token: string = body.message;
  expect(headers.get("set-cookie")).toMatch(/^jwt_token=[^;]+; Path=\/; HttpOnly; Secure; SameSite=Strict$/);
  expect((await t.ask("GET", "/user", { token })).body.message).toEqual({
    id: registered.body.message,
    username: "Ada",
    name: "Ada L.",
    email: "ada@example.com",
    superuser: false,
  });
  const cookie = { cookie: `theme=dark; jwt_token=${token}` };
  expect((await t.ask("GET", "/user", { headers: cookie })).status).toBe(200);
  const out = await t.ask("POST", "/auth/logout", { headers: cookie });
  expect(out.headers.get("set-cookie")).toMatch(/^jwt_token=; Max-Age=0/);
  expect((await t.ask("GET", "/user", { token })).status).toBe(401);
  expect((await t.ask("POST", "/auth/logout")).status).toBe(200);
});

test("a session is for a day, or for thirty when it is to be remembered", async () => {
  await t.user("Sessions");
  const claims = async (remember: boolean) => {
    const { body, headers } = await login("Sessions", PASSWORD, remember);
    const payload = JSON.parse(atob((body.message as string).split(".")[1] as string));
    return { payload, cookie: headers.get("set-cookie") ?? "" };
  };
  const day = await claims(false);
  expect(Object.keys(day.payload).sort()).toEqual(["exp", "iat", "id", "jti"]);
  expect(day.payload.exp - day.payload.iat).toBe(86_400);
  expect(day.cookie).not.toContain("Max-Age");
  const month = await claims(true);
  expect(month.payload.exp - month.payload.iat).toBe(30 * 86_400);
  expect(month.cookie).toContain("Max-Age=2592000");
});

test("an unknown user and a wrong password get the same answer after the same work", async () => {
  await t.user("Known");
  await login("Known");
  t.verified.length = 0;
  const wrong = await login("Known", "Wr0ng-secret!");
  expect(t.verified).toHaveLength(1);
  const unknown = await login("Nobody", "Wr0ng-secret!");
  expect(t.verified).toHaveLength(2);
  expect(unknown.status).toBe(401);
  expect(unknown.text).toBe(wrong.text);
  expect((await login("Known", "x".repeat(3_000))).text).toBe(wrong.text);
  expect(t.verified).toHaveLength(3);
});

test("a deactivated user is told so only after the right password, and its sessions end", async () => {
  const { id, token } = await t.user("Leaver");
  await t.db.updateTable("user_account").set({ active: false }).where("id", "=", id).execute();
  expect((await login("Leaver")).body.code).toBe("forbidden");
  expect((await login("Leaver", "Wr0ng-secret!")).body.code).toBe("invalid_credentials");
  expect((await t.ask("GET", "/user", { token })).status).toBe(403);
});

test("a token that is forged, expired, revoked or for another user's session is refused", async () => {
  const user = await t.user("Holder");
  const other = await t.user("Other");
  const { jti } = JSON.parse(atob(user.token.split(".")[1] as string));
  const times = { issuedAtMs: Date.now(), expiresAtMs: Date.now() + 60_000 };
  const secret = t.deps.settings.jwtSecret;
  const forged = await signSessionToken(
    utf8("some other secret of enough length"),
    { sessionId: jti, userId: user.id },
    times,
  );
  const stolen = await signSessionToken(secret, { sessionId: jti, userId: other.id }, times);
  const unsigned = `${btoa('{"alg":"none"}').replaceAll("=", "")}.${user.token.split(".")[1]}.`;
  for (const token of [forged, stolen, unsigned, "x", "GRADshort", `${user.token}x`]) {
    expect([token, (await t.ask("GET", "/user", { token })).status]).toEqual([token, 401]);
  }
  expect((await t.ask("GET", "/user", { token: user.token })).status).toBe(200);
  await t.db.updateTable("session").set({ expires_at: sql`gradient_now()` }).where("id", "=", jti).execute();
  expect((await t.ask("GET", "/user", { token: user.token })).status).toBe(401);
});

test("registration keeps the rules of names and passwords, and each name and address belongs to one user", async () => {
  const account = { username: "Grace", name: "Grace", email: "grace@example.com", password: PASSWORD };
  const attempt = async (change: object) =>
    (await t.ask("POST", "/auth/basic/register", { body: { ...account, ...change } })).body.code;
  expect(await attempt({ username: "ab" })).toBe("invalid_username");
  expect(await attempt({ username: "Root" })).toBe("invalid_username");
  expect(await attempt({ username: "a__b" })).toBe("invalid_username");
  expect(await attempt({ email: "nonsense" })).toBe("invalid_email");
  expect(await attempt({ name: " " })).toBe("invalid_name");
  for (const password of [
    "Sh0rt!",
    "alllower1!",
    "NoDigits!!",
    "NoSpecial11",
    "MyPassword1!",
    "Aaaa1!bb",
    "Wabcd9!x",
  ]) {
    expect([password, await attempt({ password })]).toEqual([password, "invalid_password"]);
  }
  expect(await attempt({})).toBeUndefined();
  expect(await attempt({ username: "GRACE", email: "g2@example.com" })).toBe("already_exists");
  expect(await attempt({ username: "Grace2", email: "GRACE@example.com" })).toBe("already_exists");
});

test("a name is checked with status 200, whatever the verdict", async () => {
  await t.user("Taken");
  const check = async (username: string) => await t.ask("POST", "/auth/check-username", { body: { username } });
  expect((await check("Free-one")).body.error).toBe(false);
  expect(await check("taken")).toMatchObject({ status: 200, body: { error: true, code: "already_exists" } });
  expect(await check("-")).toMatchObject({ status: 200, body: { error: true, code: "invalid_username" } });
});

test("registration can be turned off", async () => {
  await using closed = await withApp({ registrationEnabled: false });
  const account = { username: "Late", name: "Late", email: "late@example.com", password: PASSWORD };
  const { status, body } = await closed.ask("POST", "/auth/basic/register", { body: account });
  expect([status, body.code]).toEqual([400, "registration_disabled"]);
});

test("nobody collects sessions without end: expired ones go, and the oldest make room", async () => {
  const { id, token } = await t.user("Collector");
  const session = (age: number) => ({
    id: crypto.randomUUID(),
    user_id: id,
    created_at: new Date(Date.now() - age * 1_000 - 60_000),
    expires_at: new Date(Date.now() + (age < 300 ? 60_000 : -60_000)),
  });
  await t.db
    .insertInto("session")
    .values(Array.from({ length: 310 }, (_, age) => session(age)))
    .execute();
  expect((await login("Collector")).status).toBe(200);
  const kept = await t.db.selectFrom("session").select("expires_at").where("user_id", "=", id).execute();
  expect(kept).toHaveLength(200);
  expect(kept.filter(({ expires_at }) => expires_at.getTime() < Date.now())).toEqual([]);
  expect((await t.ask("GET", "/user", { token })).status).toBe(200);
});

test("a page of another origin changes nothing with somebody's cookie", async () => {
  const { body } = await login("ada");
  const headers = { cookie: `jwt_token=${body.message}`, origin: "https://elsewhere.example.com" };

  const refused = await t.ask("PUT", "/orgs", {
    headers,
    body: { name: "planted", display_name: "Planted", description: "" },
  });

  expect(refused.status).toBe(403);
  const listed = await t.ask("GET", "/orgs", { token: body.message });
  expect(listed.body.message).toMatchObject({ items: [], total: 0 });
});

test("of several that register one name, or one address, at the same moment one gets it", async () => {
  const register = (username: string, email: string) =>
    t.ask("POST", "/auth/basic/register", { body: { username, name: "Racer", email, password: PASSWORD } });
  const names = await Promise.all(
    Array.from({ length: 6 }, (_, i) => register(i % 2 ? "Racer" : "RACER", `r${i}@e.org`)),
  );
  const addresses = await Promise.all(Array.from({ length: 6 }, (_, i) => register(`Racer-${i}`, "one@e.org")));

  for (const answers of [names, addresses]) {
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409, 409]);
  }
});

test("a form on a page of others signs nobody in or out", async () => {
  const { body } = await login("ada");
  const form = { "content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "cross-site" };
  // Browsers send no strict cookie with such a form: an answer that sets or empties it would be believed.
  const out = await t.ask("POST", "/auth/logout", { headers: form });
  expect(out.headers.get("set-cookie")).toBeNull();
  const into = await t.ask("POST", "/auth/basic/login", { headers: form, body: "loginname=ada&password=x" });
  expect([into.status, into.headers.get("set-cookie")]).toEqual([415, null]);
  const stolen = await t.ask("POST", "/auth/logout", {
    headers: { ...form, cookie: `jwt_token=${body.message}`, origin: "https://elsewhere.example.com" },
  });
  expect(stolen.status).toBe(403);
  expect((await t.ask("GET", "/user", { token: body.message })).status).toBe(200);
});

test("what signing in and out leaves in the audit log names where it came from, and never the password", async () => {
  const { id } = await t.user("Watched");
  const headers = { "user-agent": "Browser/1.0", "x-test-peer": "203.0.113.9" };
  const attempt = (password: string) =>
    t.ask("POST", "/auth/basic/login", { body: { loginname: "Watched", password }, headers });
  await attempt("Wr0ng-secret!");
  const token: string = (await attempt(PASSWORD)).body.message;
  await t.ask("POST", "/auth/logout", { token, headers });
  await login("Unknown-name", "Wr0ng-secret!");

  const rows = await t.db
    .selectFrom("audit_event")
    .selectAll()
    .where("user_id", "=", id)
    .orderBy("created_at")
    .execute();
  expect(rows).toMatchObject([
    { event: "login.failure", ip: "203.0.113.9", user_agent: "Browser/1.0", metadata: { reason: "password" } },
    { event: "login.success", ip: "203.0.113.9", metadata: { method: "password" } },
    { event: "logout" },
  ]);
  const all = JSON.stringify(await t.db.selectFrom("audit_event").selectAll().execute());
  expect(all).toContain('"reason":"unknown"');
  for (const secret of ["Wr0ng-secret!", PASSWORD, "Unknown-name"]) expect(all).not.toContain(secret);
});

test("where nobody can register, checking a name tells nothing of who is here", async () => {
  await using closed = await withApp({ registrationEnabled: false });
  await closed.user("Insider");
  const check = async (username: string) =>
    (await closed.ask("POST", "/auth/check-username", { body: { username } })).text;
  expect(await check("Insider")).toBe(await check("Outsider"));
});

test("a password that is replaced while it is checked opens no session", async () => {
  await t.user("Overtaken");
  const verify = t.deps.passwords.verify;
  const slow = {
    ...t.deps,
    passwords: {
      ...t.deps.passwords,
      verify: async (stored: string, secret: string) => {
        const matches = await verify(stored, secret);
        const changed = t.db.updateTable("user_account").set({ password_hash: "test$replaced" });
        await changed.where("username", "=", "Overtaken").execute();
        return matches;
      },
    },
  };
  const attempt = signIn(slow, { loginname: "Overtaken", password: PASSWORD, remember_me: false }, CLIENT);
  await expect(attempt).rejects.toThrow("The login name or the password is wrong");
});

test("the cookie is for TLS alone, unless the operator has none", async () => {
  await using plain = await withApp({ secureCookie: false });
  await plain.user("Plain");
  const body = { loginname: "Plain", password: PASSWORD };
  const { headers } = await plain.ask("POST", "/auth/basic/login", { body });
  expect(headers.get("set-cookie")).toMatch(/^jwt_token=[^;]+; Path=\/; HttpOnly; SameSite=Strict$/);
});
