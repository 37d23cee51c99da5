import { expect, test } from "vitest";
import { type TestApp, withApp } from "#test/handlers/support.ts";
import { makeSession } from "#test/support/session.ts";
import { apply, changesOf, everything, type Json, WORKER } from "./support.ts";

type Edit = readonly [method: string, path: string, body?: Json];

/** What the file owns. `{…}` stands for the id of the thing. */
const REFUSED: readonly Edit[] = [
  ["PATCH", "/user/settings", { name: "Somebody else" }],
  ["DELETE", "/user"],
  ["PATCH", "/orgs/acme", { description: "x" }],
  ["DELETE", "/orgs/acme"],
  ["DELETE", "/orgs/acme/public"],
  ["POST", "/orgs/acme/ssh"],
  ["POST", "/orgs/acme/users", { user: "bob", role: "View" }],
  ["PATCH", "/orgs/acme/users", { user: "bob", role: "View" }],
  ["DELETE", "/orgs/acme/users", { user: "bob" }],
  ["POST", "/orgs/acme/roles", { name: "new", permissions: ["viewOrg"] }],
  ["PATCH", "/orgs/acme/roles/{role}", { name: "new" }],
  ["DELETE", "/orgs/acme/roles/{role}"],
  ["PUT", "/orgs/acme/integrations", { name: "new", kind: "inbound", forge_type: "gitea" }],
  ["PATCH", "/orgs/acme/integrations/{integration}", { display_name: "new" }],
  ["DELETE", "/orgs/acme/integrations/{integration}"],
  [
    "PUT",
    "/projects/acme",
    { name: "new", display_name: "New", repository: "https://x.example.com/y", wildcard: "*", description: "" },
  ],
  ["PATCH", "/projects/acme/web", { description: "x" }],
  ["DELETE", "/projects/acme/web"],
  ["DELETE", "/projects/acme/web/active"],
  ["POST", "/projects/acme/web/transfer", { organization: "globex" }],
  ["POST", "/projects/acme/web/flake-inputs", { input_name: "new" }],
  ["PATCH", "/projects/acme/web/flake-inputs/{input}", { url: null }],
  ["DELETE", "/projects/acme/web/flake-inputs/{input}"],
  ["PATCH", "/caches/main", { description: "x" }],
  ["DELETE", "/caches/main"],
  ["DELETE", "/caches/main/active"],
  ["POST", "/caches/main/public"],
  ["POST", "/caches/main/keys/rotate"],
  ["PUT", "/caches/main/upstreams", { type: "http", display_name: "x", url: "https://x.example.com", public_key: "x" }],
  ["PATCH", "/caches/main/upstreams/{upstream}", { display_name: "x" }],
  ["DELETE", "/caches/main/upstreams/{upstream}"],
  ["POST", "/caches/main/roles", { name: "new", permissions: ["viewCache"] }],
  ["DELETE", "/caches/main/roles/{cache_role}"],
  ["POST", "/caches/main/members", { user: "bob", role: "View" }],
  ["PATCH", "/caches/main/members", { user: "bob", role: "View" }],
  ["DELETE", "/caches/main/members", { user: "bob" }],
  ["PATCH", "/user/keys/{api_key}", { name: "new" }],
  ["POST", "/user/keys/{api_key}/revoke"],
  ["DELETE", "/user/keys", { name: "deploy" }],
];

/** What people go on with in what the file owns. */
const ALLOWED: readonly Edit[] = [
  ["POST", "/projects/acme/web/triggers", { config: { type: "polling", interval_secs: 4000 } }],
  ["PATCH", "/projects/acme/web/triggers/{trigger}", { active: false }],
  ["DELETE", "/projects/acme/web/triggers/{trigger}"],
  ["DELETE", "/projects/acme/web/actions/{action}"],
  ["DELETE", "/orgs/acme/subscribe/main"],
  ["POST", "/orgs/acme/subscribe/main", { mode: "ReadOnly" }],
  ["PATCH", `/orgs/acme/workers/${WORKER}`, { active: false }],
  ["DELETE", `/orgs/acme/workers/${WORKER}`],
];

test("what the file declares is changed in the file and nowhere else, but for what people work with", async () => {
  await using app = await withApp();
  const file = everything();
  await apply(app, file);
  const { token, ids } = await aliceOf(app);
  for (const [method, path, body] of REFUSED) {
    const answer = await app.ask(method, fill(path, ids), { token, body });
    expect([method, path, answer.status, answer.body.code]).toEqual([method, path, 403, "forbidden"]);
    expect([method, path, answer.body.message]).toEqual([method, path, expect.stringMatching(/configuration/)]);
  }
  expect(changesOf(await apply(app, file))).toEqual([]);

  for (const [method, path, body] of ALLOWED) {
    const answer = await app.ask(method, fill(path, ids), { token, body });
    expect([method, path, answer.status]).toEqual([method, path, 200]);
  }
  // The next start brings back what was declared.
  expect(changesOf(await apply(app, file))).toEqual([
    "changed: actions of the project web of acme",
    "changed: subscription of acme to the cache main",
    "changed: triggers of the project web of acme",
    `created: worker ${WORKER} of acme`,
  ]);
});

function fill(path: string, ids: Readonly<Record<string, string>>): string {
  return path.replace(/\{(\w+)\}/g, (whole, name: string) => ids[name] ?? whole);
}

async function aliceOf(app: TestApp): Promise<{ readonly token: string; readonly ids: Record<string, string> }> {
  const { rows } = await app.pool.query<Record<string, string>>(`
    select (select id from user_account where username = 'alice') as alice,
      (select id from role where name = 'deployer' and oidc_groups <> '{}') as role,
      (select id from integration where kind = 0) as integration,
      (select i.id from project_flake_input i where input_name = 'nixpkgs') as input,
      (select u.id from cache_upstream u join cache c on c.id = u.cache_id where c.name = 'main' limit 1) as upstream,
      (select id from cache_role where name = 'pusher') as cache_role,
      (select id from api_key where name = 'deploy') as api_key,
      (select t.id from project_trigger t join project p on p.id = t.project_id
        where p.active and t.type = 3) as trigger,
      (select id from project_action where name = 'mail') as action`);
  const ids = rows[0] ?? {};
  return { token: await makeSession(app.deps, ids.alice ?? ""), ids };
}
