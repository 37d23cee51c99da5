import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withServerProcess } from "#test/runtime/server-process.ts";
import { withDatabase } from "#test/support/database.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { startRealProvider } from "./real-provider.ts";
import { cookieOf } from "./site.ts";

const SECRET = "0123456789abcdef0123456789abcdef0123456789abcdef";
const ADA = { preferred_username: "ada", name: "Ada Lovelace", email: "ada@example.org", email_verified: true };

test("a server with nothing but the options signs people in at a provider that others wrote", {
  timeout: 90_000,
}, async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  const secret = join(folder.path, "secret");
  await writeFile(secret, `${SECRET}\n`);
  await using provider = await startRealProvider({
    clientId: "gradient",
    clientSecret: SECRET,
    redirectUri: "https://ci.example.com/api/v1/auth/oidc/callback",
    people: { "ada-1": { ...ADA, groups: ["staff"] }, "bob-1": { preferred_username: "bob" } },
  });
  await using server = await withServerProcess(join(folder.path, "base"), {
    GRADIENT_DATABASE_URL: database.url,
    GRADIENT_JWT_SECRET_FILE: secret,
    GRADIENT_CRYPT_SECRET_FILE: secret,
    GRADIENT_SERVE_URL: "https://ci.example.com",
    GRADIENT_OIDC_ENABLED: "true",
    GRADIENT_OIDC_REQUIRED: "true",
    GRADIENT_OIDC_DISCOVERY_URL: provider.url,
    GRADIENT_OIDC_CLIENT_ID: "gradient",
    GRADIENT_OIDC_CLIENT_SECRET_FILE: secret,
    GRADIENT_OIDC_SCOPES: "openid email profile groups",
    GRADIENT_OIDC_ICON_URL: "/logo.svg",
  });
  const ask = async (path: string, cookie = "") =>
    await fetch(`${server.url}/api/v1${path}`, { redirect: "manual", headers: { cookie } });
  const signIn = async (subject: string) => {
    const login = await ask("/auth/oidc/login");
    const back = await provider.visit(login.headers.get("location") ?? "", subject);
    const path = `/auth/oidc/callback${back.search}`;
    const cookie = cookieOf(login.headers, "oidc_csrf");
    return { answer: await ask(path, cookie), again: async () => await ask(path, cookie) };
  };

  expect(((await (await ask("/config")).json()) as { message: object }).message).toMatchObject({
    oidc_enabled: true,
    oidc_required: true,
    oidc_icon_url: "/logo.svg",
    registration_enabled: false,
  });
  const { answer, again } = await signIn("ada-1");
  expect([answer.status, answer.headers.get("location")]).toEqual([302, "/account/oidc-callback"]);
  expect((await again()).status).toBe(401);
  const user = await ask("/user", cookieOf(answer.headers, "jwt_token"));
  expect(((await user.json()) as { message: object }).message).toMatchObject({
    username: "ada",
    name: "Ada Lovelace",
    email: "ada@example.org",
  });
  expect((await signIn("bob-1")).answer.status).toBe(302);
  const identities = await database.db.selectFrom("user_identity").select(["issuer", "subject"]).execute();
  expect(identities.map(({ subject }) => subject).sort()).toEqual(["ada-1", "bob-1"]);
  expect(identities[0]?.issuer).toBe(provider.url);
});
