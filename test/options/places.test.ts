import { createHmac } from "node:crypto";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { utf8 } from "#core/lib/bytes.ts";
import { createSecretBox } from "#core/services/secret-box.ts";
import { freePort } from "#test/e2e/gradient.ts";
import { withServerProcess } from "#test/runtime/server-process.ts";
import { addOrganization, type Place, type StartedServer, withPlace } from "./support.ts";

const PERSON = { username: "ada", name: "Ada", email: "ada@example.org", password: "Corr3ct-Horse!" };

let place: Place;
beforeAll(async () => {
  place = await withPlace();
});
afterAll(() => place[Symbol.asyncDispose]());

function post(server: StartedServer, path: string, body: object): Promise<Response> {
  const headers = { "content-type": "application/json" };
  return fetch(`${server.url}/api/v1${path}`, { method: "POST", headers, body: JSON.stringify(body) });
}

async function signIn(server: StartedServer): Promise<{ readonly token: string; readonly cookie: string }> {
  await post(server, "/auth/basic/register", PERSON);
  const answer = await post(server, "/auth/basic/login", { loginname: PERSON.username, password: PERSON.password });
  const { message } = (await answer.json()) as { message: string };
  return { token: message, cookie: answer.headers.getSetCookie().join("\n") };
}

async function statusOf(server: StartedServer, token: string): Promise<number> {
  return (await fetch(`${server.url}/api/v1/user`, { headers: { authorization: `Bearer ${token}` } })).status;
}

test("listenAddr (GRADIENT_IP), port (GRADIENT_PORT): where a proxy finds all of the server", async () => {
  const port = await freePort();
  await using server = await place.start({ GRADIENT_IP: "127.0.0.3", GRADIENT_PORT: String(port) });

  expect(server.url).toBe(`http://127.0.0.3:${port}`);
  expect((await fetch(`http://127.0.0.3:${port}/api/v1/health`)).status).toBe(200);
  expect((await fetch(`http://127.0.0.3:${port}/cache/none/nix-cache-info`)).status).toBe(401);
  // What is there for WebSockets alone says so to whoever asks without.
  expect((await fetch(`http://127.0.0.3:${port}/proto`)).status).toBeGreaterThanOrEqual(400);
  await expect(fetch(`http://127.0.0.1:${port}/api/v1/health`)).rejects.toThrow("fetch failed");
});

test("baseDir (GRADIENT_BASE_PATH): what the server keeps is in that folder", async () => {
  const folder = join(place.folder, "elsewhere", "base");
  await using _server = await place.start({ GRADIENT_BASE_PATH: folder });

  expect(await readdir(folder)).toEqual(expect.arrayContaining(["lock", "storage"]));
});

test("GRADIENT_DATABASE_URL_FILE: the database is that of the file, whatever GRADIENT_DATABASE_URL says", async () => {
  await using server = await place.start({ GRADIENT_DATABASE_URL: "postgresql://nobody@127.0.0.1:1/nothing" });

  await signIn(server);

  const users = await place.db.selectFrom("user_account").select("username").execute();
  expect(users).toEqual([{ username: PERSON.username }]);
});

test("jwtSecretFile (GRADIENT_JWT_SECRET_FILE): signs sessions by HS256, and another ends them", async () => {
  let token: string;
  {
    await using server = await place.start();
    ({ token } = await signIn(server));
    expect(await statusOf(server, token)).toBe(200);
  }
  const [header, claims, signature] = token.split(".");
  // The line feed at the end of the file does not belong to the secret.
  const signed = createHmac("sha256", "j".repeat(48)).update(`${header}.${claims}`).digest("base64url");
  expect(signature).toBe(signed);

  {
    await using server = await place.start();
    expect(await statusOf(server, token)).toBe(200);
  }
  const other = join(place.folder, "other-jwt-secret");
  await writeFile(other, "o".repeat(48));
  await using server = await place.start({ GRADIENT_JWT_SECRET_FILE: other });
  expect(await statusOf(server, token)).toBe(401);
});

test("a secret below 32 bytes, or none, stops the start, and the server says how to make one", async () => {
  const short = join(place.folder, "short-jwt-secret");
  await writeFile(short, `${"j".repeat(31)}\n`);
  const secrets = { GRADIENT_JWT_SECRET_FILE: short, GRADIENT_CRYPT_SECRET_FILE: "" };
  const words = await withServerProcess(place.folder, { ...place.required, ...secrets }).then(
    () => "it started",
    (error: Error) => error.message,
  );

  const advice = "make one with: openssl rand -base64 48 >";
  expect(words).toContain(`GRADIENT_JWT_SECRET_FILE: the JWT secret is shorter than 32 bytes; ${advice} ${short}`);
  expect(words).toContain(`GRADIENT_CRYPT_SECRET_FILE: is required with a database URL; ${advice} /path/to/crypt-`);
});

test("cryptSecretFile (GRADIENT_CRYPT_SECRET_FILE): it alone opens the keys in the database", async () => {
  await using server = await place.start();
  const api = Object.assign(server.api(), { token: (await signIn(server)).token });
  await addOrganization(api, "sealed");
  const row = await place.db
    .selectFrom("organization")
    .select(["id", "ssh_secret_key"])
    .where("name", "=", "sealed")
    .executeTakeFirstOrThrow();
  const where = { table: "organization", column: "ssh_secret_key", id: row.id };

  // As the file is, line feed and all.
  const box = await createSecretBox(utf8(`${"c".repeat(48)}\n`));
  const other = await createSecretBox(utf8("c".repeat(48)));
  expect(new TextDecoder().decode(await box.open(where, row.ssh_secret_key))).toContain("PRIVATE KEY");
  await expect(other.open(where, row.ssh_secret_key)).rejects.toThrow();
});

test("domain (GRADIENT_SERVE_URL): the host is in the keys of caches; with https, cookies are for TLS", async () => {
  await using server = await place.start({ GRADIENT_SERVE_URL: "https://ci.example.org" });
  const { token, cookie } = await signIn(server);
  const api = Object.assign(server.api(), { token });
  await addOrganization(api, "named");

  expect(await api.request<string>("GET", "/caches/named/public-key")).toMatch(/^ci\.example\.org-named:/);
  expect(cookie).toMatch(/^jwt_token=.*; Secure/);
});

test("GRADIENT_USE_TLS=false: the cookie is for connections without TLS, too", async () => {
  await using server = await place.start({
    GRADIENT_SERVE_URL: "https://ci.example.org",
    GRADIENT_USE_TLS: "false",
  });

  const { cookie } = await signIn(server);

  expect(cookie).toMatch(/^jwt_token=/);
  expect(cookie).not.toContain("Secure");
});

test("frontend.url (GRADIENT_FRONTEND_URL): scripts of that page read answers, and others not", async () => {
  await using server = await place.start({ GRADIENT_FRONTEND_URL: "https://ui.example.org" });
  const allowed = async (origin: string) => {
    const { headers } = await fetch(`${server.url}/api/v1/health`, { headers: { origin } });
    return headers.get("access-control-allow-origin");
  };

  expect(await allowed("https://ui.example.org")).toBe("https://ui.example.org");
  expect(await allowed("https://evil.example.org")).toBeNull();
});
