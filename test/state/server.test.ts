import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { argon2Hasher } from "#runtime/node/password-hasher.ts";
import { validateState } from "#runtime/node/validate-state.ts";
import { withApp } from "#test/handlers/support.ts";
import { withServerProcess } from "#test/runtime/server-process.ts";
import { withDatabase } from "#test/support/database.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { apply, changesOf, everything, type Json } from "./support.ts";

const MAIN = join(import.meta.dirname, "../../runtime/node/main.ts");
const PASSWORD = "Correct-Horse-9-Battery";
const KEY = "a".repeat(64);

test("a state file is checked from the command line without a database", async () => {
  await using folder = await withTemporaryFolder();
  const good = await write(folder, "good.json", JSON.stringify(everything()));
  const wrong = await write(folder, "wrong.json", JSON.stringify({ users: { alice: { mail: "x" } } }));

  const [fromEnvironment, refused] = await Promise.all([
    run(["--validate-state"], { GRADIENT_STATE_FILE: good }),
    run(["validate-state", wrong]),
  ]);
  expect(fromEnvironment).toMatchObject({ code: 0, errors: "" });
  expect(fromEnvironment.output).toContain(`${good}: good`);
  expect(refused.code).toBe(1);
  expect(refused.errors.trim().split("\n")).toEqual([
    "error: users.alice.email: is missing",
    "error: users.alice.mail: is not known here; did you mean email?",
    `${wrong}: 2 errors`,
  ]);
  expect(await validateState(good, {})).toMatchObject({ exitCode: 0 });
  expect(await validateState(undefined, {})).toEqual({
    exitCode: 2,
    text: "no state file: name one (gradient-server validate-state FILE) or set GRADIENT_STATE_FILE",
  });
});

test("a file that cannot be read or is no JSON is wrong", async () => {
  await using folder = await withTemporaryFolder();
  const missing = join(folder.path, "missing.json");
  expect(await validateState(missing, {})).toEqual({
    exitCode: 1,
    text: `the state file ${missing} cannot be read: ENOENT: no such file or directory, open '${missing}'`,
  });
  const cut = await write(folder, "cut.json", '{"users": {');
  expect(await validateState(cut, {})).toMatchObject({
    exitCode: 1,
    text: expect.stringContaining(`the state file ${cut} is not JSON: `),
  });
  const binary = await write(folder, "binary.json", Uint8Array.of(0x7b, 0xff, 0x7d));
  expect((await validateState(binary, {})).text).toBe(`the state file ${binary} cannot be read: it is not UTF-8 text`);
});

test("secrets that are at hand are checked, and never shown", async () => {
  await using folder = await withTemporaryFolder();
  const secret = async (name: string, contents: string) => write(folder, name, contents);
  const file: Json = everything();
  file.users.alice.password_file = await secret("password", "hunter2-hunter2");
  file.api_keys.deploy.key_file = await secret("key", `${KEY.toUpperCase()}\n`);
  file.api_keys["push key"].key_file = await secret("short", KEY.slice(1));
  file.workers.builder.token_file = await secret("token", "c2hvcnQ=");
  file.caches.main.signing_key_file = await secret("signing", "c2hvcnQ=");
  file.organizations.acme.private_key_file = await secret("ssh", "-----BEGIN RSA PRIVATE KEY-----");
  file.integrations.forge.secret_file = await secret("hook", "two\nlines");
  file.projects["globex-web"].actions = [
    {
      name: "x",
      type: "send_web_request",
      config: { url: "https://x.example.com", token_file: await secret("none", " ") },
    },
  ];
  // A folder is no file, and what is no text is none either.
  file.integrations["forge-out"].access_token_file = folder.path;
  file.projects.web.actions[0].config.token_file = await write(folder, "bytes", Uint8Array.of(0xff));
  file.caches.main.upstreams[2].api_key_file = await secret("large", "x".repeat(70_000));
  // The credential counts before the file.
  await mkdir(join(folder.path, "credentials"));
  await secret("credentials/gradient_worker_550e8400-e29b-41d4-a716-446655440002_token", "hunter2-hunter2");
  const path = await write(folder, "state.json", JSON.stringify(file));

  const { exitCode, text: words } = await validateState(path, {
    GRADIENT_CREDENTIALS_DIR: join(folder.path, "credentials"),
  });
  expect(exitCode).toBe(1);
  await expect(words.replaceAll(folder.path, "")).toMatchFileSnapshot("./mistakes/secrets.txt");
  expect(words).not.toContain("hunter2");
});

test("a server starts with what its file declares, or says why not and does not start", async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  await mkdir(join(folder.path, "credentials"));
  await write(folder, "credentials/gradient_user_alice_password", await argon2Hasher.hash(PASSWORD));
  await write(folder, "key-hash", `${createHash("sha256").update(KEY).digest("hex")}\n`);
  const state: Json = {
    users: { alice: { email: "alice@example.com", password_file: "/nowhere", superuser: true } },
    organizations: { acme: { created_by: "alice" } },
    api_keys: { ci: { owned_by: "alice", key_file: join(folder.path, "key-hash"), permissions: ["viewOrg"] } },
  };
  const environment = {
    GRADIENT_DATABASE_URL: database.url,
    GRADIENT_STATE_FILE: await write(folder, "state.json", JSON.stringify(state)),
    GRADIENT_CREDENTIALS_DIR: join(folder.path, "credentials"),
    GRADIENT_JWT_SECRET_FILE: await write(folder, "jwt", "j".repeat(64)),
    GRADIENT_CRYPT_SECRET_FILE: await write(folder, "crypt", "c".repeat(64)),
  };
  const base = join(folder.path, "base");
  {
    await using server = await withServerProcess(base, environment);
    const signedIn = await fetch(`${server.url}/api/v1/auth/basic/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ loginname: "alice", password: PASSWORD }),
    });
    expect(signedIn.status).toBe(200);
    const headers = { authorization: `Bearer GRAD${KEY}` };
    expect((await fetch(`${server.url}/api/v1/orgs/acme`, { headers })).status).toBe(200);
    expect(server.lines.join("\n")).toContain("state file: created: organization acme");
  }

  delete state.organizations;
  state.api_keys.ci.key_file = "/nowhere/else";
  await write(folder, "state.json", JSON.stringify(state));
  const credential = join(folder.path, "credentials", "gradient_api_alice_ci_key");
  await expect(withServerProcess(base, environment)).rejects.toThrow(
    `api_keys.ci.key_file: is not there: neither the credential ${credential} nor the file /nowhere/else exists`,
  );

  delete state.api_keys;
  await write(folder, "state.json", JSON.stringify(state));
  await using server = await withServerProcess(base, { ...environment, GRADIENT_DELETE_STATE: "false" });
  expect(server.lines.join("\n")).toContain("state file: released: organization acme");
  expect(await database.db.selectFrom("organization").select(["name", "managed"]).execute()).toEqual([
    { name: "acme", managed: false },
  ]);
});

test("servers that start together declare everything once", async () => {
  await using app = await withApp();
  const all = await Promise.all([1, 2, 3].map(() => apply(app, everything())));
  expect(all.map((applied) => changesOf(applied).length).sort((a, b) => a - b)).toEqual([0, 0, expect.any(Number)]);
  expect(await app.db.selectFrom("organization").select("name").orderBy("name").execute()).toEqual([
    { name: "acme" },
    { name: "globex" },
  ]);
});

async function run(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ readonly code: number | null; readonly output: string; readonly errors: string }> {
  const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, ...env } });
  const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { code: code as number | null, output, errors };
}

async function write({ path }: TemporaryFolder, name: string, contents: string | Uint8Array): Promise<string> {
  const file = join(path, name);
  await writeFile(file, contents);
  return file;
}
