import type { ServerResponse } from "node:http";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { CLIENT, type Claims, type Misdeeds, startProvider, type TestProvider } from "./provider.ts";
import { type Answer, type Site, startSite } from "./site.ts";

let provider: TestProvider;
let site: Site;
beforeAll(async () => {
  provider = await startProvider("RS256");
  site = await startSite({ discoveryUrl: provider.url });
});
afterEach(() => {
  for (const name of Object.keys(provider.misdeeds)) delete provider.misdeeds[name as keyof Misdeeds];
});
afterAll(async () => {
  await site[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
});

const GENERIC =
  "Signing in by the identity provider failed: try again, or ask the operator of this server, whose log says why";
const EVE = { sub: "eve", preferred_username: "eve", email: "eve@example.org", email_verified: true };

/** Nobody came in, nothing tells why, and the operator finds the reason. */
async function expectRefusal(answer: Answer, reason: RegExp | string): Promise<void> {
  expect([answer.status, answer.body]).toEqual([401, { error: true, code: "unauthorized", message: GENERIC }]);
  expect(answer.headers.getSetCookie().join()).not.toContain("jwt_token");
  const logged = site.lastWarning();
  expect(logged).toMatchObject({ level: "warn", message: "a sign-in by the identity provider failed" });
  expect(logged?.fields.reason).toEqual(await site.lastFailure());
  if (typeof reason === "string") expect(logged?.fields.reason).toBe(reason);
  else expect(logged?.fields.reason).toMatch(reason);
  const accounts = await site.t.db.selectFrom("user_account").select("id").where("username", "=", "eve").execute();
  expect(accounts).toEqual([]);
}

const hourAgo = () => Math.floor(Date.now() / 1_000) - 3_600;
const unsigned = (claims: Claims, alg: string) =>
  [{ alg, typ: "JWT" }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");

test.each<[string, () => Misdeeds, RegExp]>([
  ["another issuer", () => ({ claims: { iss: "https://evil.example.org" } }), /"iss"/],
  ["another client's audience", () => ({ claims: { aud: "another-client" } }), /"aud"/],
  ["a second audience that nobody trusts", () => ({ claims: { aud: [CLIENT.id, "other"] } }), /aud/],
  ["another sign-in's nonce", () => ({ claims: { nonce: "a".repeat(43) } }), /nonce/],
  ["no nonce", () => ({ claims: { nonce: undefined } }), /nonce/],
  ["an end an hour ago", () => ({ claims: { exp: hourAgo() } }), /expiration is past/],
  ["no end", () => ({ claims: { exp: undefined } }), /exp/],
  ["no subject", () => ({ claims: { sub: undefined } }), /sub/],
  ["groups that are no list of names", () => ({ claims: { groups: { admins: true } } }), /groups is not a list/],
  ["no signature (alg none)", () => ({ idToken: (claims) => `${unsigned(claims, "none")}.` }), /"alg"/],
  [
    "no signature, which its discovery document allows",
    () => ({
      metadata: { id_token_signing_alg_values_supported: ["RS256", "none"] },
      idToken: (claims) => `${unsigned(claims, "none")}.`,
    }),
    /alg/,
  ],
  ["a key of another kid", () => ({ idToken: (claims) => provider.sign(claims, provider.keys.unknown) }), /key/],
  [
    "another key under the known kid",
    () => ({ idToken: (claims) => provider.sign(claims, { ...provider.keys.unknown, kid: "first" }) }),
    /signature verification failed/,
  ],
  ["something that is no token", () => ({ idToken: () => "not.a.token" }), /JWT/],
])("an ID token with %s lets nobody in", async (_, misdeeds, reason) => {
  const { metadata } = misdeeds();
  if (metadata === undefined) {
    Object.assign(provider.misdeeds, misdeeds());
    return await expectRefusal(await site.signIn(provider, EVE), reason);
  }
  // What the provider says of itself is remembered: this one is asked for the first time.
  await using other = await startProvider("RS256");
  Object.assign(other.misdeeds, misdeeds());
  await using otherSite = await startSite({ discoveryUrl: other.url });
  expect((await otherSite.signIn(other, EVE)).status).toBe(401);
  expect(await otherSite.lastFailure()).toMatch(reason);
});

test("a subject that no provider may give lets nobody in", async () => {
  for (const sub of ["s".repeat(256), "tab\there", "\u00e9"]) {
    await expectRefusal(await site.signIn(provider, { ...EVE, sub }), /the claim sub must be/);
  }
});

test("a token that the client's secret signs (HS256) lets nobody in", async () => {
  const { SignJWT } = await import("jose");
  provider.misdeeds.idToken = async (claims) =>
    await new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(new TextEncoder().encode(CLIENT.secret));
  await expectRefusal(await site.signIn(provider, EVE), /"alg"/);
});

test("neither a code nor a state comes back twice, even where the provider would take it", async () => {
  const { url, cookie } = await site.begin();
  const back = provider.agree(url, { sub: "once", preferred_username: "once" });
  expect((await site.comeBack(back, cookie)).status).toBe(302);
  await expectRefusal(await site.comeBack(back, cookie), "this sign-in came back before");
  // The same state with a fresh code.
  await expectRefusal(await site.comeBack(provider.agree(url, EVE), cookie), "this sign-in came back before");
  // A used code in a fresh sign-in.
  const again = await site.begin();
  const stolen = provider.agree(again.url, EVE);
  stolen.searchParams.set("code", back.searchParams.get("code") as string);
  await expectRefusal(await site.comeBack(stolen, again.cookie), "the provider refuses the code: invalid_grant");
});

test("who did not begin in this browser, or begins anew, is told so, and uses up nothing", async () => {
  const mine = await site.begin();
  const theirs = await site.begin();
  const back = provider.agree(mine.url, { sub: "mine", preferred_username: "mine" });
  const forged = "oidc_csrf=eyJhbGciOiJub25lIn0.e30.";
  const session = `oidc_csrf=${(await site.t.user("Holder")).token}`;
  for (const cookie of [null, theirs.cookie, forged, session, "oidc_csrf="]) {
    expect((await site.comeBack(back, cookie)).body, String(cookie)).toEqual({
      error: true,
      code: "unauthorized",
      message: expect.stringContaining("begin again"),
    });
  }
  const stateless = new URL(back);
  stateless.searchParams.delete("state");
  expect((await site.comeBack(stateless, mine.cookie)).status).toBe(401);
  expect((await site.comeBack(back, mine.cookie)).status).toBe(302);
});

test("a cookie of a sign-in is no session", async () => {
  const { cookie } = await site.begin();
  const token = cookie.split("=")[1] as string;
  expect((await site.ask("GET", "/api/v1/user", { token })).status).toBe(401);
  expect((await site.ask("GET", "/api/v1/user", { cookie: `jwt_token=${token}` })).status).toBe(401);
});

test("who does not agree at the provider comes back without a code", async () => {
  const { url, cookie } = await site.begin();
  const back = provider.agree(url, EVE);
  back.searchParams.delete("code");
  back.searchParams.set("error", "access_denied");
  back.searchParams.set("error_description", "No\nthanks");
  await expectRefusal(await site.comeBack(back, cookie), "the provider says access_denied (No thanks)");
});

test("the answer of another provider is not taken for this one's", async () => {
  const { url, cookie } = await site.begin();
  const back = provider.agree(url, EVE);
  back.searchParams.set("iss", "https://evil.example.org");
  await expectRefusal(await site.comeBack(back, cookie), /"iss"/);
});

test("a code that somebody else began with is refused by the provider: the verifier is not theirs", async () => {
  const theirs = await site.begin();
  const stolen = provider.agree(theirs.url, EVE).searchParams.get("code") as string;
  const { url, cookie } = await site.begin();
  const back = provider.agree(url, EVE);
  back.searchParams.set("code", stolen);
  await expectRefusal(await site.comeBack(back, cookie), "the provider refuses the code: invalid_grant");
});

test.each<[string, Misdeeds["answer"], RegExp]>([
  [
    "1 GB in one piece",
    { path: "/token", by: (response) => void response.writeHead(200, { "content-length": 2 ** 30 }).write("{") },
    /more than the 1048576 expected/,
  ],
  [
    "bytes without end",
    {
      path: "/token",
      by: (response) => {
        const more = () => {
          while (!response.destroyed && response.write(" ".repeat(65_536)));
          if (!response.destroyed) response.once("drain", more);
        };
        more();
      },
    },
    /more than the 1048576 bytes expected/,
  ],
  ["something that is not JSON", { path: "/token", by: (response) => void response.end("<html>") }, /JSON/],
  [
    "half an answer",
    { path: "/token", by: (response) => void response.write("{", () => response.destroy()) },
    /cut off/,
  ],
  ["a fault of its own", { path: "/token", by: (response) => void response.writeHead(500).end("{}") }, /HTTP status/],
  [
    "a redirect for the client's secret",
    { path: "/token", by: (response) => void response.writeHead(307, { location: "/other" }).end() },
    /HTTP status/,
  ],
  ["no userinfo", { path: "/userinfo", by: (response) => void response.writeHead(500).end("{}") }, /UserInfo/],
])("a provider that answers with %s lets nobody in", async (_, answer, reason) => {
  if (answer) provider.misdeeds.answer = answer;
  await expectRefusal(await site.signIn(provider, EVE), reason);
});

test("a provider that is down, is not itself, or sends browsers to no page is a fault of the server's", async () => {
  const down = await startProvider();
  await using downSite = await startSite({ discoveryUrl: down.url });
  await down[Symbol.asyncDispose]();
  const cases: [Site, RegExp][] = [[downSite, /cannot be reached/]];
  await using disposables = new AsyncDisposableStack();
  for (const [metadata, reason] of [
    [{ issuer: "https://evil.example.org" }, /calls itself https:\/\/evil\.example\.org\//],
    [{ issuer: undefined }, /does not name itself/],
    [{ authorization_endpoint: "javascript:alert(1)" }, /authorization_endpoint/],
  ] as const) {
    const other = disposables.use(await startProvider());
    other.misdeeds.metadata = metadata;
    cases.push([disposables.use(await startSite({ discoveryUrl: other.url })), reason]);
  }
  for (const [broken, reason] of cases) {
    const { status, body } = await broken.ask("GET", "/api/v1/auth/oidc/login");
    expect([status, body?.code]).toEqual([503, "service_unavailable"]);
    expect(broken.lastWarning()?.fields.reason).toMatch(reason);
  }
});

test.each<[string, (response: ServerResponse) => void]>([
  ["says nothing", () => {}],
  [
    "says a little now and then",
    (response) => {
      const timer = setInterval(() => response.write(" "), 10);
      response.once("close", () => clearInterval(timer));
    },
  ],
])("nobody waits forever for a provider that %s", async (_, by) => {
  await using slow = await startProvider();
  slow.misdeeds.answer = { path: "/.well-known", by };
  await using slowSite = await startSite({ discoveryUrl: slow.url, impatient: true });
  expect((await slowSite.ask("GET", "/api/v1/auth/oidc/login")).status).toBe(503);
  expect(slowSite.lastWarning()?.fields.reason).toBe("the provider takes too long");
});

test("no log line and no audit event holds a token, a code or a secret", async () => {
  const everything = JSON.stringify([
    site.log.lines,
    await site.t.db.selectFrom("audit_event").select("metadata").execute(),
  ]);
  // Tokens, fields of forms, and the codes of this provider.
  expect(everything).not.toMatch(/eyJ|client_secret|code_verifier|[0-9a-f]{32}/);
  expect(everything).not.toContain(CLIENT.secret);
});
