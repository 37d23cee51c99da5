import { expect, test } from "vitest";
import { type TestApp, withApp } from "#test/handlers/support.ts";
import { makeSession } from "#test/support/session.ts";
import { apply, changesOf, everything, type Json, secretFor, WORKER } from "./support.ts";

/** One after the other; what each does to the server. */
const CHANGES: readonly (readonly [what: string, change: (file: Json) => void, changes: readonly string[]])[] = [
  [
    "a user's name",
    (file) => {
      file.users.alice.name = "Alice A.";
    },
    ["changed: user alice"],
  ],
  [
    "a user's password",
    (file) => {
      file.users.alice.password_file = "/run/secrets/another";
    },
    ["changed: user alice"],
  ],
  [
    "no password any more",
    (file) => {
      file.users.alice.password_file = null;
    },
    ["changed: user alice"],
  ],
  [
    "addresses that two users exchange",
    (file) => {
      [file.users.alice.email, file.users.bob.email] = [file.users.bob.email, file.users.alice.email];
    },
    ["changed: user alice", "changed: user bob"],
  ],
  [
    "another name of a user",
    (file) => {
      file.users.bob.username = "robert";
      const names = JSON.stringify(file).replaceAll('"bob"', '"robert"').replace('"robert":{', '"bob":{');
      Object.assign(file, JSON.parse(names));
    },
    ["renamed: user bob, now robert"],
  ],
  [
    "an organization's key",
    (file) => {
      file.organizations.acme.private_key_file = "/run/secrets/acme-ssh-2";
    },
    ["changed: organization acme"],
  ],
  [
    "another name of an organization",
    (file) => {
      file.organizations.acme.name = "acme-inc";
      Object.assign(file, JSON.parse(JSON.stringify(file).replaceAll('"acme"', '"acme-inc"')));
      file.integrations.forge.secret_file = "/run/secrets/forge-hook";
    },
    ["renamed: organization acme, now acme-inc"],
  ],
  [
    "a role",
    (file) => {
      file.roles.deployer.permissions.push("manageTriggers");
      file.roles.deployer.oidc_group = [];
    },
    ["changed: role deployer of acme-inc"],
  ],
  [
    "a member's role",
    (file) => {
      Object.values<Json>(file.organizations)[0].members[1].role = "View";
    },
    ["changed: members of organization acme-inc"],
  ],
  [
    "an integration's secret",
    (file) => {
      file.integrations.forge.secret_file = "/run/secrets/forge-hook-2";
    },
    ["changed: inbound integration forge of acme-inc"],
  ],
  [
    "how the hosts of a project follow",
    (file) => {
      Object.assign(file.projects.web, { deploy_branch: null, deploy_hold: true, deploy_wave_percent: 50 });
    },
    ["changed: project web of acme-inc"],
  ],
  [
    "a project's repository",
    (file) => {
      file.projects.web.repository = "https://forge.example.com/acme/site.git";
    },
    ["changed: project web of acme-inc"],
  ],
  [
    "a trigger that is switched off",
    (file) => {
      file.projects.web.triggers[0].active = false;
    },
    ["changed: triggers of the project web of acme-inc"],
  ],
  [
    "an action's token",
    (file) => {
      file.projects.web.actions[0].config.token_file = "/run/secrets/chat-2";
    },
    ["changed: actions of the project web of acme-inc"],
  ],
  [
    "an action of another type",
    (file) => {
      file.projects.web.actions[1] = {
        ...file.projects.web.actions[1],
        type: "send_web_request",
        config: { url: "https://x.example.com/" },
      };
    },
    ["changed: actions of the project web of acme-inc"],
  ],
  [
    "an overridden input",
    (file) => {
      file.projects.web.flake_input_overrides.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";
    },
    ["changed: overridden inputs of the project web of acme-inc"],
  ],
  [
    "a cache's priority",
    (file) => {
      file.caches.main.priority = 20;
    },
    ["changed: cache main"],
  ],
  [
    "an upstream's keys",
    (file) => {
      file.caches.main.upstreams[1].public_key += " other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
    },
    ["changed: upstreams of the cache main"],
  ],
  [
    "how an organization uses a cache",
    (file) => {
      file.caches.main.organizations[1].mode = "WriteOnly";
    },
    ["changed: subscription of globex to the cache main"],
  ],
  [
    "an API key's permissions",
    (file) => {
      file.api_keys.deploy.permissions = ["viewOrg"];
    },
    ["changed: API key deploy of alice"],
  ],
  [
    "another name of an API key",
    (file) => {
      file.api_keys.deploy.name = "deploy-2";
    },
    ["renamed: API key deploy of alice, now deploy-2"],
  ],
  [
    "a worker's abilities",
    (file) => {
      file.workers.builder.enable_build = false;
    },
    [`changed: worker ${WORKER} of acme-inc`, `changed: worker ${WORKER} of globex`],
  ],
];

test("what changes in the file changes on the server, and every row stays the one that it is", async () => {
  await using app = await withApp();
  const file = everything();
  await apply(app, file);
  const before = await idsOf(app);
  for (const [what, change, changes] of CHANGES) {
    change(file);
    const secrets = { "/run/secrets/another": await secretFor("password_hash", "/another").then(otherHash) };
    expect([what, changesOf(await apply(app, file, { secrets }))]).toEqual([what, changes]);
    expect([what, changesOf(await apply(app, file, { secrets }))]).toEqual([what, []]);
  }
  const after = await idsOf(app);
  // But for the action of another type, and the trigger whose settings are its identity.
  expect(after.project_action).toHaveLength(2);
  expect({ ...after, project_action: null }).toEqual({ ...before, project_action: null });
});

test("a new password of a user ends what was begun with the old one", async () => {
  await using app = await withApp();
  const file = { users: { alice: { email: "alice@example.com", password_file: "/run/secrets/alice" } } };
  await apply(app, file);
  const alice = await app.db.selectFrom("user_account").select("id").executeTakeFirstOrThrow();
  const token = await makeSession(app.deps, alice.id);
  expect((await app.ask("GET", "/user", { token })).status).toBe(200);

  await apply(app, file, { secrets: { "/run/secrets/alice": otherHash(await secretFor("password_hash", "/x")) } });
  expect((await app.ask("GET", "/user", { token })).status).toBe(401);
});

test("a cache that is given another key signs with that one, and takes the other's signatures out", async () => {
  await using app = await withApp();
  const file = { users: everything().users, caches: { main: everything().caches.base } as Json };
  file.caches.main.signing_key_file = "/run/secrets/first";
  await apply(app, file);
  const first = await app.db.selectFrom("cache_key").select(["name", "public_key", "state"]).execute();
  expect(first).toMatchObject([{ name: "ci.example.com-main", state: 0 }]);

  file.caches.main.signing_key_file = "/run/secrets/second";
  await apply(app, file);
  const keys = await app.db.selectFrom("cache_key").select(["name", "state"]).orderBy("created_at").execute();
  expect(keys).toEqual([
    { name: "ci.example.com-main", state: 1 },
    { name: "ci.example.com-main.2", state: 0 },
  ]);
  expect(changesOf(await apply(app, file))).toEqual([]);

  file.caches.main.signing_key_file = null;
  expect(changesOf(await apply(app, file))).toEqual([]);
});

function otherHash(hash: string): string {
  return hash.replace(/.$/, "A");
}

async function idsOf({ pool }: TestApp): Promise<Record<string, string[]>> {
  const ids: Record<string, string[]> = {};
  for (const table of [
    ...["user_account", "organization", "role", "integration", "project", "project_trigger", "project_action"],
    ...["cache", "cache_upstream", "organization_cache", "api_key", "worker_registration", "base_worker"],
  ]) {
    const { rows } = await pool.query<{ id: string }>(`select id from ${table} order by id`);
    ids[table] = rows.map(({ id }) => id);
  }
  return ids;
}
