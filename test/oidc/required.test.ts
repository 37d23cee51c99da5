import { afterAll, beforeAll, expect, test } from "vitest";
import { PASSWORD } from "#test/handlers/support.ts";
import { startProvider, type TestProvider } from "./provider.ts";
import { type Site, startSite } from "./site.ts";

let provider: TestProvider;
let required: Site;
let optional: Site;
beforeAll(async () => {
  provider = await startProvider("ES256");
  const discoveryUrl = `${provider.url}/`;
  required = await startSite({ discoveryUrl, required: true, iconUrl: "https://auth.example.com/logo.svg" });
  optional = await startSite({ discoveryUrl });
});
afterAll(async () => {
  await required[Symbol.asyncDispose]();
  await optional[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
});

const ACCOUNT = { username: "newcomer", name: "New Comer", email: "new@example.org", password: PASSWORD };

test("where the provider is required nobody registers or signs in with a password, whoever it is", async () => {
  const { username } = await required.t.user("Holder");
  const login = async (site: Site, loginname: string, password = PASSWORD) =>
    await site.ask("POST", "/api/v1/auth/basic/login", { body: { loginname, password } });
  const answers = [
    await login(required, username),
    await login(required, username, "Wr0ng-secret!"),
    await login(required, "nobody"),
  ];
  for (const { status, body } of answers) expect([status, body?.code]).toEqual([401, "oauth_required"]);
  const registered = await required.ask("POST", "/api/v1/auth/basic/register", { body: ACCOUNT });
  expect([registered.status, registered.body?.code]).toEqual([400, "registration_disabled"]);

  await optional.t.user("Holder");
  expect((await login(optional, "Holder")).status).toBe(200);
  expect((await optional.ask("POST", "/api/v1/auth/basic/register", { body: ACCOUNT })).status).toBe(200);
});

test("where the provider is required people sign in by it", async () => {
  const user = await required.signedIn(provider, { sub: "1", preferred_username: "by-provider" });
  expect(user.username).toBe("by-provider");
});

test("an account from before is claimed by an address that both sides verified, and its password goes", async () => {
  const { db } = required.t;
  const { id, token: session } = await required.t.user("Before");
  const mail = { email: "before@example.com", email_verified: true };
  const signIn = () => required.signIn(provider, { sub: "2", preferred_username: "before", ...mail });
  expect((await signIn()).status).toBe(401);
  await db.updateTable("user_account").set({ email_verified: true }).where("id", "=", id).execute();
  const other = { sub: "3", preferred_username: "before", email: "else@example.com", email_verified: true };
  expect((await required.signIn(provider, other)).status).toBe(401);
  expect((await required.ask("GET", "/api/v1/user", { token: session })).status).toBe(200);
  expect((await signIn()).status).toBe(302);
  // Whoever had signed in to it with the password does not stay in.
  expect((await required.ask("GET", "/api/v1/user", { token: session })).status).toBe(401);
  const account = await db.selectFrom("user_account").selectAll().where("id", "=", id).executeTakeFirstOrThrow();
  expect(account.password_hash).toBeNull();
  expect(await db.selectFrom("user_identity").select("subject").where("user_id", "=", id).execute()).toEqual([
    { subject: "2" },
  ]);
  await optional.t.user("Before");
  await optional.t.db.updateTable("user_account").set({ email_verified: true }).execute();
  const there = await optional.signIn(provider, { sub: "2", preferred_username: "x", ...mail });
  expect(there.status).toBe(401);
});

test("clients read that there is a provider, whether it is required, and its logo", async () => {
  const config = async (site: Site) => (await site.ask("GET", "/api/v1/config")).body?.message;
  expect(await config(required)).toMatchObject({
    oidc_enabled: true,
    oidc_required: true,
    oidc_icon_url: "https://auth.example.com/logo.svg",
    registration_enabled: false,
  });
  expect(await config(optional)).toMatchObject({
    oidc_enabled: true,
    oidc_required: false,
    oidc_icon_url: null,
    registration_enabled: true,
  });
  expect((await optional.t.ask("GET", "/config")).body.message).toMatchObject({
    oidc_enabled: false,
    oidc_required: false,
  });
});

test("who signs in by a provider has no password: none can be used, and settings say so", async () => {
  const answer = await optional.signIn(provider, { sub: "p", preferred_username: "passwordless" });
  const cookie =
    answer.headers
      .getSetCookie()
      .find((line) => line.startsWith("jwt_token="))
      ?.split(";")[0] ?? "";
  expect((await optional.ask("GET", "/api/v1/user/settings", { cookie })).body?.message).toMatchObject({
    is_oidc: true,
    email: "",
  });
  const body = { loginname: "passwordless", password: PASSWORD };
  expect((await optional.ask("POST", "/api/v1/auth/basic/login", { body })).status).toBe(401);
});
