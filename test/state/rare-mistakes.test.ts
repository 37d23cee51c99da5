import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sql } from "kysely";
import { expect, test } from "vitest";
import { concatBytes, toBase64 } from "#core/lib/bytes.ts";
import { generateKeyPair } from "#core/nix/signature.ts";
import { generateSshKey } from "#core/services/ssh-key.ts";
import { validateState } from "#runtime/node/validate-state.ts";
import { withApp } from "#test/handlers/support.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { apply, everything, type Json, problemsOf } from "./support.ts";

/** What hardly anybody gets wrong, each with what is said of it. */
const MISTAKES: readonly (readonly [string, (file: Json) => void])[] = [
  [
    "projects.web.triggers[0].config.branch: contains a NUL character, which no text may",
    (file) => {
      file.projects.web.triggers[0].config.branch = "a\0b";
    },
  ],
  [
    "organizations.acme.description: contains a NUL character, which no text may",
    (file) => {
      file.organizations.acme.description = "\0";
    },
  ],
  [
    "organizations.acme.created_by: must be the name of a user",
    (file) => {
      file.organizations.acme.created_by = 7;
    },
  ],
  [
    "organizations.acme.private_key_file: must be the path of a file",
    (file) => {
      file.organizations.acme.private_key_file = 7;
    },
  ],
  [
    "roles.deployer.permissions: names more permissions than there are",
    (file) => {
      file.roles.deployer.permissions = Array(65).fill("viewOrg");
    },
  ],
  [
    "caches.main.roles[0].permissions: names more permissions than there are",
    (file) => {
      file.caches.main.roles[0].permissions = Array(65).fill("viewCache");
    },
  ],
  [
    "caches.main.organizations[0]: must be the name of an organization, or its name and mode",
    (file) => {
      file.caches.main.organizations[0] = 7;
    },
  ],
  [
    "projects.web.actions: has more than the 100 that are allowed",
    (file) => {
      const [action] = file.projects.web.actions;
      file.projects.web.actions = Array.from({ length: 101 }, (_, index) => ({ ...action, name: `action-${index}` }));
    },
  ],
  [
    "projects.web.flake_input_overrides: has more than 256 entries: use patterns",
    (file) => {
      const inputs = Array.from({ length: 257 }, (_, index) => [`input-${index}`, { keep_url: true }]);
      file.projects.web.flake_input_overrides = Object.fromEntries(inputs);
    },
  ],
  [
    "projects.web.flake_input_overrides: cannot hold an input called __proto__",
    (file) => {
      file.projects.web.flake_input_overrides = JSON.parse('{"__proto__": {"keep_url": true}}');
    },
  ],
];

test.each(MISTAKES)("%s", (words, mistake) => {
  const file = everything();
  mistake(file);
  expect(problemsOf(file).join("\n")).toContain(words);
});

test("what an action is to write to nobody, and events where there are none, are named", () => {
  const file = everything();
  file.projects.web.actions = [
    { name: "mail", type: "send_mail", config: { recipients: [] }, events: ["build.failed"] },
    { name: "status", type: "forge_status_report", config: { integration: "forge" }, events: ["build.failed"] },
  ];
  const problems = problemsOf(file);
  expect(problems).toContain("projects.web.actions[0].config.recipients: is empty: name whom to write to");
  expect(problems).toContain("projects.web.actions[1].events: must be empty: this type of action has no events");
});

test("a credential whose name no file could have is named", () => {
  const file = everything();
  const [action] = file.projects.web.actions;
  action.name = "x".repeat(250);
  const [problem] = problemsOf(file);
  expect(problem).toBe(
    "projects.web.actions[0].config.token_file: would be the credential " +
      `gradient_action_acme_web_${action.name}_token, whose name is too long: choose a shorter one`,
  );
});

test("keys that are damaged are named, and a secret that is elsewhere is only noted", async () => {
  await using folder = await withTemporaryFolder();
  const path = (name: string) => join(folder.path, name);
  const [one, other] = [await generateKeyPair("a"), await generateKeyPair("b")];
  await writeFile(path("halves"), toBase64(concatBytes([one.secretKey.seed, other.secretKey.publicBytes])));
  const ssh = (await generateSshKey("test")).secretKey.split("\n");
  await writeFile(path("ssh"), [...ssh.slice(0, 3), ssh.at(-2), ""].join("\n"));
  const state: Json = {
    users: { alice: { email: "alice@example.com", password_file: "/run/elsewhere/password" } },
    organizations: { acme: { created_by: "alice", private_key_file: path("ssh") } },
    caches: { main: { created_by: "alice", signing_key_file: path("halves") } },
  };
  await mkdir(path("credentials"));
  await writeFile(path("state.json"), JSON.stringify(state));

  const { text } = await validateState(path("state.json"), { GRADIENT_CREDENTIALS_DIR: path("credentials") });

  expect(text).toContain("organizations.acme.private_key_file: is cut short or damaged: it is no whole private key");
  expect(text).toContain("caches.main.signing_key_file: holds two halves that do not belong together");
  expect(text).toContain(
    "note: users.alice.password_file: /run/elsewhere/password is not here: it is looked at when the server starts",
  );
});

test("what only the database knows to be wrong is named, and nothing is done", async () => {
  await using app = await withApp();
  const file: Json = {
    users: { alice: { email: "alice@example.com" } },
    organizations: { acme: { created_by: "alice" } },
    api_keys: { one: { owned_by: "alice", permissions: ["viewOrg"], key_file: "/run/one" } },
    workers: {},
  };
  await apply(app, file);

  file.api_keys.two = { ...file.api_keys.one, key_file: "/run/two" };
  file.api_keys.three = { ...file.api_keys.one, key_file: "/run/two" };
  await expect(apply(app, file)).rejects.toThrow("api_keys.three.key_file: holds the hash of another key of this file");
  delete file.api_keys.two;
  delete file.api_keys.three;

  await sql`update api_key set revoked_at = gradient_now()`.execute(app.db);
  file.api_keys.one.key_file = null;
  await expect(apply(app, file)).rejects.toThrow("api_keys.one.key_file: is missing: the key of this name was revoked");
  delete file.api_keys.one;

  const worker_id = "550e8400-e29b-41d4-a716-446655440009";
  file.workers.builder = { worker_id, organizations: ["acme"], created_by: "alice", token_file: null };
  await expect(apply(app, file)).rejects.toThrow(
    "workers.builder.token_file: is missing: the server does not know this worker yet",
  );
  delete file.workers.builder;

  const web = { organization: "acme", repository: "https://forge.example.com/a/b.git", created_by: "alice" };
  const trigger = { type: "reporter_push", integration: "github", config: {} };
  file.projects = { web: { ...web, triggers: [trigger] } };
  await expect(apply(app, file)).rejects.toThrow(
    "projects.web.triggers[0].integration: the server has no inbound integration github of acme",
  );
  delete file.projects;

  await sql`update organization set deleted_at = gradient_now()`.execute(app.db);
  const { id } = await app.db.selectFrom("organization").select("id").executeTakeFirstOrThrow();
  file.organizations = { again: { id, created_by: "alice" } };
  const failure = apply(app, file);
  await expect(failure).rejects.toThrow("the state file cannot be applied:");
  await expect(failure).rejects.toThrow(
    "organizations.again.id: belongs to an organization that is being deleted: start again when that is done",
  );
});

test("what somebody else did at the same time is said to be that, and nothing is done", async () => {
  await using app = await withApp();
  await sql`
    create function clash() returns trigger language plpgsql as $$ begin
      raise unique_violation using constraint = 'organization_name_key';
    end $$`.execute(app.db);
  await sql`create trigger clash before insert on organization for each row execute function clash()`.execute(app.db);

  const file = { users: { alice: { email: "alice@example.com" } }, organizations: { acme: { created_by: "alice" } } };
  await expect(apply(app, file)).rejects.toThrow(
    "the state file could not be applied, since somebody changed the same things: start again (organization_name_key)",
  );
  expect(await app.db.selectFrom("user_account").select("id").execute()).toEqual([]);
});

test("the operator is warned of members that have no account yet", async () => {
  await using app = await withApp();
  const members = [{ user: "carol", role: "Admin" }];
  const file = {
    users: { alice: { email: "alice@example.com" } },
    organizations: { acme: { created_by: "alice", members } },
  };
  expect((await apply(app, file)).warnings).toEqual([
    "carol has no account yet: whoever gets one by this name becomes a member of the organization acme. " +
      "Declare the user, or see to it that strangers cannot register (GRADIENT_ENABLE_REGISTRATION)",
  ]);
});
