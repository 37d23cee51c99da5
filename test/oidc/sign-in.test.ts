import { afterAll, beforeAll, expect, test } from "vitest";
import { startProvider, type TestProvider } from "./provider.ts";
import { cookieOf, type Site, startSite } from "./site.ts";

let provider: TestProvider;
let site: Site;
beforeAll(async () => {
  provider = await startProvider("ES256");
  site = await startSite({ discoveryUrl: provider.url });
});
afterAll(async () => {
  await site[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
});

const LOGIN = "/api/v1/auth/oidc/login";
const AUTHORIZE = "/api/v1/auth/oauth/authorize";

test("a browser goes to the provider with PKCE, state and nonce, and comes back signed in", async () => {
  const login = await site.ask("GET", LOGIN);
  expect(login.status).toBe(302);
  const { origin, pathname, searchParams } = new URL(login.headers.get("location") as string);
  expect(origin + pathname).toBe(`${provider.url}/authorize`);
  expect(Object.fromEntries(searchParams)).toEqual({
    client_id: "gradient",
    redirect_uri: "https://ci.example.com/api/v1/auth/oidc/callback",
    response_type: "code",
    scope: "openid email profile",
    state: expect.stringMatching(/^[\w-]{43}$/),
    nonce: expect.stringMatching(/^[\w-]{43}$/),
    code_challenge: expect.stringMatching(/^[\w-]{43}$/),
    code_challenge_method: "S256",
  });
  expect(login.headers.getSetCookie()).toEqual([
    expect.stringMatching(/^oidc_csrf=[\w.-]+; Max-Age=600; Path=\/; HttpOnly; Secure; SameSite=Lax$/),
  ]);
  expect(login.headers.get("cache-control")).toBe("no-store");

  const claims = {
    sub: "1",
    preferred_username: "ada",
    name: "Ada L.",
    email: "ada@example.org",
    email_verified: true,
  };
  const back = provider.agree(login.headers.get("location") as string, claims);
  const answer = await site.comeBack(back, cookieOf(login.headers, "oidc_csrf"));
  expect(answer.status).toBe(302);
  expect(answer.headers.get("location")).toBe("/account/oidc-callback");
  expect(answer.headers.getSetCookie()).toEqual([
    expect.stringMatching(/^oidc_csrf=; Max-Age=0; Path=\//),
    expect.stringMatching(/^jwt_token=[\w.-]+; Path=\/; HttpOnly; Secure; SameSite=Strict$/),
  ]);
  const cookie = cookieOf(answer.headers, "jwt_token");
  expect((await site.ask("GET", "/api/v1/user", { cookie })).body?.message).toMatchObject({
    username: "ada",
    name: "Ada L.",
    email: "ada@example.org",
    superuser: false,
  });
  const payload = JSON.parse(atob(cookie.split(".")[1] as string));
  expect(payload.exp - payload.iat).toBe(86_400);
});

test("a client that leads the browser itself gets the address, then the token, and no session cookie", async () => {
  const asked = await site.ask("POST", AUTHORIZE);
  expect(asked.status).toBe(200);
  const back = provider.agree(asked.body?.message as string, {
    sub: "api",
    preferred_username: "api-client",
  });
  const cookie = cookieOf(asked.headers, "oidc_csrf");
  expect((await site.ask("GET", `${AUTHORIZE}?state=x`, { cookie })).body?.code).toBe("invalid_oauth_code");
  expect((await site.ask("GET", `${AUTHORIZE}?code=x&state=y`, { cookie })).status).toBe(401);
  const answer = await site.ask("GET", `${AUTHORIZE}${back.search}`, { cookie });
  expect(answer.status).toBe(200);
  expect(answer.headers.getSetCookie()).toEqual([expect.stringMatching(/^oidc_csrf=; Max-Age=0/)]);
  const token = answer.body?.message as string;
  expect((await site.ask("GET", "/api/v1/user", { token })).body?.message).toMatchObject({ username: "api-client" });
});

test("the sign-in is in the audit log, as is who was made or taken over", async () => {
  const user = await site.signedIn(provider, { sub: "audited", preferred_username: "audited" });
  await site.signedIn(provider, { sub: "audited", preferred_username: "audited" });
  const events = await site.t.db
    .selectFrom("audit_event")
    .select(["event", "metadata", "user_agent"])
    .where("user_id", "=", user.id)
    .orderBy("created_at")
    .orderBy("id")
    .execute();
  expect(events.map(({ event }) => event)).toEqual(["register", "login.success", "login.success"]);
  expect(events[0]).toMatchObject({ metadata: { method: "oidc", subject: "audited" }, user_agent: "a browser" });
});

test("what the provider tells at its userinfo endpoint only counts, too; of somebody else it does not", async () => {
  const more = { preferred_username: "sparse", email: "sparse@example.org", email_verified: true };
  expect(await site.signedIn(provider, { sub: "sparse" }, more)).toMatchObject({
    username: "sparse",
    email: "sparse@example.org",
    email_verified: true,
  });
  expect((await site.signIn(provider, { sub: "sparse-2" }, { ...more, sub: "sparse" })).status).toBe(401);
  // What is verified there is not the address in the token.
  const mixed = { sub: "mixed", preferred_username: "mixed", email: "mixed@example.org" };
  expect(await site.signedIn(provider, mixed, { email: "other@example.org", email_verified: true })).toMatchObject({
    email: "mixed@example.org",
    email_verified: false,
  });
});

test("the provider is asked about itself once in a while, not at every sign-in", async () => {
  await site.begin();
  provider.asked.length = 0;
  await site.signedIn(provider, { sub: "cached", preferred_username: "cached" });
  await site.begin();
  expect(provider.asked.filter((path) => path === "/.well-known/openid-configuration")).toEqual([]);
});

test("a provider that takes the client's secret in the header only gets it there", async () => {
  await using basic = await startProvider();
  basic.misdeeds.metadata = { token_endpoint_auth_methods_supported: ["client_secret_basic"] };
  await using other = await startSite({ discoveryUrl: `${basic.url}/.well-known/openid-configuration` });
  await other.signedIn(basic, { sub: "1", preferred_username: "basic" });
  expect(basic.asked.filter((entry) => entry.startsWith("by "))).toEqual(["by header"]);
});

test("where the web interface has an address of its own, a browser goes on there", async () => {
  await using other = await startSite({ discoveryUrl: provider.url, frontendUrl: "https://www.example.com" });
  const answer = await other.signIn(provider, { sub: "web", preferred_username: "web-user" });
  expect(answer.headers.get("location")).toBe("https://www.example.com/account/oidc-callback");
});

test("without a provider every one of these addresses says so", async () => {
  for (const [method, path] of [
    ["GET", "/auth/oidc/login"],
    ["GET", "/auth/oidc/callback?code=a&state=b"],
    ["POST", "/auth/oauth/authorize"],
    ["GET", "/auth/oauth/authorize"],
  ] as const) {
    const { status, body } = await site.t.ask(method, path);
    expect([status, body.code], path).toEqual([400, "oauth_disabled"]);
  }
});
