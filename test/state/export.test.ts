import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { type TestApp, withApp } from "#test/handlers/support.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { apply, changesOf, everything, type Json, problemsOf, rowVersions, WORKER } from "./support.ts";

test("the exported JSON is a good state file, and applied where it comes from it changes nothing", async () => {
  await using app = await withApp();
  await apply(app, everything());
  const root = await app.user("root-of-all", { superuser: true });

  const answer = await app.ask("GET", "/admin/state?format=json", { token: root.token });
  expect(answer.status).toBe(200);
  const exported = JSON.parse(answer.text) as Json;
  expect(problemsOf(exported)).toEqual([]);
  // The one who asks was not declared.
  expect(changesOf(await apply(app, exported))).toEqual(["taken over: user root-of-all"]);
  const before = await rowVersions(app);
  expect(changesOf(await apply(app, exported))).toEqual([]);
  expect(await rowVersions(app)).toEqual(before);
});

test("the exported Nix is read by Nix itself as the same document", async () => {
  await using app = await withApp();
  const file = everything();
  // biome-ignore lint/suspicious/noTemplateCurlyInString: that is what Nix must not take for its own
  const odd = 'Quotes " and ${braces}, \\backslashes\\, $${dollars}, a\ttab and\nlines';
  file.organizations.acme.description = odd;
  await apply(app, file);
  const root = await app.user("root-of-all", { superuser: true });

  const request = new Request("http://127.0.0.1:3000/api/v1/admin/state", {
    headers: { authorization: `Bearer ${root.token}` },
  });
  const response = await app.app.request(request);
  expect(response.headers.get("content-type")).toMatch(/^text\/plain/);
  await using folder = await withTemporaryFolder();
  const path = join(folder.path, "state.nix");
  await writeFile(path, await response.text());
  const evaluated = await promisify(execFile)("nix-instantiate", ["--eval", "--strict", "--json", path], {
    env: { ...process.env, HOME: folder.path, NIX_REMOTE: `local?root=${folder.path}`, NIX_STATE_DIR: folder.path },
  });

  const json = await app.ask("GET", "/admin/state?format=json", { token: root.token });
  const exported = JSON.parse(evaluated.stdout) as Json;
  expect(exported).toEqual(JSON.parse(json.text));
  expect(exported.organizations.acme.description).toBe(odd);
});

test("what people made is exported as a file that makes it declared, and changes nothing else", async () => {
  await using app = await withApp();
  const root = await app.user("root-of-all", { superuser: true });
  const { token } = root;
  const named = { display_name: "Same", description: "" };
  const web = { ...named, name: "web", repository: "https://x.example.com/y.git", wildcard: "*" };
  for (const name of ["one", "two"]) {
    await app.ask("PUT", "/orgs", { token, body: { ...named, name } });
    await app.ask("PUT", `/projects/${name}`, { token, body: web });
    await app.ask("POST", `/orgs/${name}/roles`, { token, body: { name: "deployer", permissions: ["viewOrg"] } });
    await app.ask("POST", `/orgs/${name}/workers`, { token, body: { worker_id: WORKER, display_name: name } });
  }
  await app.ask("PUT", "/caches", { token, body: { ...named, name: "main" } });
  await app.ask("POST", "/orgs/one/subscribe/main", { token, body: { mode: "ReadOnly" } });
  const body = { name: "my key", permissions: ["viewOrg"], allowed_ips: ["10.0.0.1"], expires_in_days: 30 };
  await app.ask("POST", "/user/keys", { token, body });
  await app.ask("POST", "/user/keys", { token, body: { ...body, name: "revoked" } });
  const { rows } = await app.pool.query<{ id: string }>("select id from api_key where name = 'revoked'");
  await app.ask("POST", `/user/keys/${rows[0]?.id}/revoke`, { token });
  const contents = await rowContents(app);

  const exported = JSON.parse((await app.ask("GET", "/admin/state?format=json", { token })).text) as Json;
  expect(Object.keys(exported.projects)).toEqual(["one-web", "two-web"]);
  expect(Object.keys(exported.roles)).toEqual(["one-deployer", "two-deployer"]);
  expect(Object.keys(exported.workers)).toEqual(["one", "two"]);
  expect(Object.keys(exported.api_keys)).toEqual(["my key"]);
  expect(exported.users["root-of-all"]).toMatchObject({ password_file: null, has_password_file: true });
  expect(exported.caches.main.organizations).toEqual([{ name: "one", mode: "ReadOnly" }]);
  const changes = changesOf(await apply(app, exported));
  expect(changes.filter((line) => !/^taken over|^changed: (members|subscription)/.test(line))).toEqual([]);
  expect(await rowContents(app)).toEqual(contents);
  expect(changesOf(await apply(app, exported))).toEqual([]);
});

test("only superusers see it, in a session of theirs", async () => {
  await using app = await withApp();
  const human = await app.user("human");
  expect((await app.ask("GET", "/admin/state?format=json")).status).toBe(401);
  const answer = await app.ask("GET", "/admin/state?format=json", { token: human.token });
  expect([answer.status, answer.body.code]).toEqual([403, "superuser_required"]);
  const wrong = await app.ask("GET", "/admin/state?format=yaml", { token: human.token });
  expect(wrong.body.message).toBe("format: must be nix or json");
});

/** Every row without what only says who made it so. */
async function rowContents({ pool }: Pick<TestApp, "pool">): Promise<Record<string, unknown[]>> {
  const contents: Record<string, unknown[]> = {};
  for (const name of [
    "user_account",
    "organization",
    "organization_member",
    "role",
    "project",
    "project_trigger",
    "cache",
    "cache_member",
    "cache_upstream",
    "cache_key",
    "organization_cache",
    "api_key",
    "worker_registration",
  ]) {
    const { rows } = await pool.query(`select to_jsonb(t) - 'managed' as row from ${name} t order by 1`);
    contents[name] = rows;
  }
  return contents;
}
