import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { withApp } from "#test/handlers/support.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { apply, changesOf, everything, type Json, problemsOf, rowVersions } from "./support.ts";

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
