import { describe, expect, test } from "vitest";
import { ensureRequestProject } from "#core/db/build-requests-project.ts";
import { ORGANIZATION_ROLE } from "#core/domain/permissions.ts";
import { uuidV7 } from "#core/lib/ids.ts";
import { type TestApp, withApp } from "#test/handlers/support.ts";
import { apply, changesOf, everything, type Json } from "./support.ts";

const ALICE = { alice: { email: "alice@example.com" } };

describe("members", () => {
  test("one who has no account yet becomes a member when one is made, whatever was restarted meanwhile", async () => {
    await using app = await withApp();
    const file = {
      users: ALICE,
      organizations: { acme: { created_by: "alice", members: [{ user: "Carol", role: "Write" }] } },
      caches: { main: { created_by: "alice", members: [{ user: "carol", role: "View" }] } },
    };
    const { warnings } = await apply(app, file);
    expect(warnings.filter((words) => words.startsWith("Carol has no account yet"))).toHaveLength(1);
    await apply(app, file);
    const carol = await app.user("carol");
    expect(await membersOf(app, "acme")).toEqual(["carol Write"]);
    expect((await app.ask("GET", "/caches/main", { token: carol.token })).status).toBe(200);
    expect(changesOf(await apply(app, file))).toEqual([]);
  });

  test("one who leaves the file before there is an account becomes nothing", async () => {
    await using app = await withApp();
    const file: Json = {
      users: ALICE,
      organizations: { acme: { created_by: "alice", members: [{ user: "carol", role: "Admin" }] } },
    };
    await apply(app, file);
    file.organizations.acme.members = [{ user: "alice", role: "Admin" }];
    await apply(app, file);
    await app.user("carol");
    expect(await membersOf(app, "acme")).toEqual(["alice Admin"]);
  });

  test("without a declared member people's own stay beside the creator; with one nobody else does", async () => {
    await using app = await withApp();
    const file: Json = { users: ALICE, organizations: { acme: { created_by: "alice" } } };
    await apply(app, file);
    const human = await app.user("human");
    await join(app, human.id, "acme", ORGANIZATION_ROLE.Write);
    expect(changesOf(await apply(app, file))).toEqual([]);
    expect(await membersOf(app, "acme")).toEqual(["alice Admin", "human Write"]);

    file.organizations.acme.members = [{ user: "human", role: "View" }];
    await apply(app, file);
    expect(await membersOf(app, "acme")).toEqual(["human View"]);
    file.organizations.acme.members = [];
    await apply(app, file);
    expect(await membersOf(app, "acme")).toEqual(["alice Admin"]);
  });

  test("what a group at the identity provider gives is not taken away", async () => {
    await using app = await withApp();
    const file = everything();
    await apply(app, file);
    const human = await app.user("human");
    const role = await app.db
      .selectFrom("role")
      .select(["id", "organization_id"])
      .where("name", "=", "deployer")
      .where("organization_id", "=", file.organizations.acme.id)
      .executeTakeFirstOrThrow();
    await join(app, human.id, "acme", role.id);
    await app.db
      .insertInto("group_membership")
      .values({
        organization_id: role.organization_id as string,
        user_id: human.id,
        role_id: role.id,
        own_role_id: null,
      })
      .execute();
    expect(changesOf(await apply(app, file))).toEqual([]);
    expect(await membersOf(app, "acme")).toEqual(["alice Admin", "bob deployer", "human deployer"]);
  });
});

describe("projects", () => {
  const project = { organization: "acme", repository: "https://forge.example.com/a/b.git", created_by: "alice" };
  const base = { users: ALICE, organizations: { acme: { created_by: "alice" } } };

  test("the project of build requests is nobody's to declare, and stays", async () => {
    await using app = await withApp();
    await apply(app, base);
    const [organization] = await app.db.selectFrom("organization").select("id").execute();
    const [alice] = await app.db.selectFrom("user_account").select("id").execute();
    const id = uuidV7(Date.now());
    await ensureRequestProject(app.db, { id, organizationId: organization?.id ?? "", createdBy: alice?.id ?? "" });
    expect(changesOf(await apply(app, base))).toEqual([]);
    expect(await app.db.selectFrom("project").select("managed").execute()).toEqual([{ managed: true }]);
  });

  test("a new project looks at its repository, and one that says nothing of triggers keeps its own", async () => {
    await using app = await withApp();
    const file: Json = { ...base, projects: { web: { ...project } } };
    await apply(app, file);
    const made = await app.db.selectFrom("project_trigger").select(["id", "config"]).execute();
    expect(made).toMatchObject([{ config: { interval_secs: 300, branch: null } }]);
    await app.db.updateTable("project_trigger").set({ config: '{"interval_secs":77,"branch":null}' }).execute();
    expect(changesOf(await apply(app, file))).toEqual([]);
    await app.db.deleteFrom("project_trigger").execute();
    expect(changesOf(await apply(app, file))).toEqual([]);
  });

  test("a trigger with the same settings goes on with what it knows, in whatever order they are written", async () => {
    await using app = await withApp();
    const polling = { type: "polling", config: { interval_secs: 60, branch: "main" } };
    const time = { type: "time", config: { cron: "0 30 4 * * *" } };
    const file: Json = { ...base, projects: { web: { ...project, triggers: [polling, time] } } };
    await apply(app, file);
    const fired = new Date("2026-01-01T00:00:00Z");
    await app.db.updateTable("project_trigger").set({ last_fired_at: fired }).execute();
    const before = await app.db.selectFrom("project_trigger").selectAll().orderBy("id").execute();
    file.projects.web.triggers = [time, { ...polling, config: { branch: "main", interval_secs: 60 } }];
    await apply(app, file);
    expect(await app.db.selectFrom("project_trigger").selectAll().orderBy("id").execute()).toEqual(before);
  });

  test("no more evaluations are kept than the server keeps, and 5 where nothing is said", async () => {
    await using app = await withApp();
    const projects = { many: { ...project, keep_evaluations: 100 }, some: { ...project } };
    const { warnings } = await apply(app, { ...base, projects }, { keepEvaluations: 30 });
    expect(warnings).toEqual([
      "keep_evaluations 100 of the project many of acme is cut to 30: see GRADIENT_KEEP_EVALUATIONS",
    ]);
    const kept = () => app.db.selectFrom("project").select(["name", "keep_evaluations"]).orderBy("name").execute();
    expect(await kept()).toEqual([
      { name: "many", keep_evaluations: 30 },
      { name: "some", keep_evaluations: 5 },
    ]);
    await apply(app, { ...base, projects }, { keepEvaluations: 3 });
    expect((await kept()).map((row) => row.keep_evaluations)).toEqual([3, 3]);
  });
});

describe("what people made", () => {
  test("is taken over where the file declares the same, and theirs no more", async () => {
    await using app = await withApp();
    const human = await app.user("alice");
    const { token } = human;
    const named = { name: "acme", display_name: "Mine", description: "" };
    await app.ask("PUT", "/orgs", { token, body: named });
    await app.ask("PUT", "/caches", { token, body: { ...named, name: "main", priority: 7 } });
    const web = { ...named, name: "web", repository: "https://x.example.com/y.git", wildcard: "*" };
    await app.ask("PUT", "/projects/acme", { token, body: web });
    await app.ask("POST", "/orgs/acme/roles", { token, body: { name: "deployer", permissions: ["viewOrg"] } });
    await app.ask("POST", "/user/keys", { token, body: { name: "deploy", permissions: ["viewOrg"] } });
    const ids = await app.db.selectFrom("project").select("id").execute();

    const file = everything();
    delete file.organizations.acme.id;
    const changes = changesOf(await apply(app, file));
    expect(changes.filter((line) => line.startsWith("taken over"))).toEqual([
      "taken over: API key deploy of alice",
      "taken over: cache main",
      "taken over: organization acme",
      "taken over: project web of acme",
      "taken over: role deployer of acme",
      "taken over: user alice",
    ]);
    expect(await app.db.selectFrom("project").select("id").where("name", "=", "web").execute()).toEqual(
      expect.arrayContaining(ids),
    );
  });

  test("with another id than the file gives an organization, nothing is done", async () => {
    await using app = await withApp();
    const { token } = await app.user("human");
    await app.ask("PUT", "/orgs", { token, body: { name: "acme", display_name: "Mine", description: "" } });
    const row = await app.db.selectFrom("organization").select("id").executeTakeFirstOrThrow();
    await expect(apply(app, everything())).rejects.toThrow(
      `organizations.acme.id: is not that of the organization acme, which has the id ${row.id}`,
    );
    const file = everything();
    file.organizations.other = { id: row.id, created_by: null };
    delete file.organizations.acme.id;
    await expect(apply(app, file)).rejects.toThrow("organizations.other.id: belongs to the organization acme");
    expect(await app.db.selectFrom("user_account").select("username").execute()).toEqual([{ username: "human" }]);
  });

  test("an address that somebody else has is not taken from them", async () => {
    await using app = await withApp();
    await app.user("human");
    const file = { users: { alice: { email: "Human@example.com" } } };
    await expect(apply(app, file)).rejects.toThrow(
      "users.alice.email: belongs to the account human: declare that one, or give alice another",
    );
  });
});

test("an account that somebody has registered in advance is not made what the operator declares", async () => {
  await using app = await withApp();
  await app.user("alice");
  const file = { users: { alice: { email: "alice@corp.example.com", superuser: true } } };
  await expect(apply(app, file)).rejects.toThrow(
    "users.alice.email: is not that of the account alice, which people made: declare it with alice@example.com first",
  );
});

test("what is taken over without members keeps those it has, and the log says so", async () => {
  await using app = await withApp();
  const { token } = await app.user("human");
  const body = { name: "acme", display_name: "Mine", description: "" };
  await app.ask("PUT", "/orgs", { token, body });
  await app.ask("PUT", "/caches", { token, body });
  const declared = { acme: { created_by: "alice" } };
  const { warnings } = await apply(app, { users: ALICE, organizations: declared, caches: declared });
  expect(warnings).toEqual([
    "the organization acme was made by people, whose roles in it they keep: declare its members to say who they are",
    "the cache acme was made by people, whose roles in it they keep: declare its members to say who they are",
  ]);
  expect(await membersOf(app, "acme")).toEqual(["alice Admin", "human Admin"]);
});

test("API keys of one name belong to their owners, and a key that another one has is refused", async () => {
  await using app = await withApp();
  const key = { permissions: ["viewOrg"] };
  const file: Json = {
    users: { ...ALICE, bob: { email: "bob@example.com" } },
    api_keys: {
      "alice-ci": { ...key, name: "ci", owned_by: "alice", key_file: "/run/a" },
      "bob-ci": { ...key, name: "ci", owned_by: "bob", key_file: "/run/b" },
    },
  };
  await apply(app, file);
  delete file.api_keys["alice-ci"];
  expect(changesOf(await apply(app, file))).toEqual(["deleted: API key ci of alice"]);

  file.api_keys["alice-new"] = { ...key, name: "new", owned_by: "alice", key_file: "/run/b" };
  await expect(apply(app, file)).rejects.toThrow(
    "api_keys.alice-new.key_file: holds the hash of another key, ci of bob",
  );
  file.api_keys["alice-new"].key_file = null;
  await expect(apply(app, file)).rejects.toThrow(
    "api_keys.alice-new.key_file: is missing: the server does not have this key yet",
  );
});

async function join(app: TestApp, userId: string, organization: string, roleId: string): Promise<void> {
  const row = await app.db.selectFrom("organization").select("id").where("name", "=", organization).executeTakeFirst();
  await app.db
    .insertInto("organization_member")
    .values({ organization_id: row?.id ?? "", user_id: userId, role_id: roleId })
    .execute();
}

async function membersOf({ db }: TestApp, organization: string): Promise<string[]> {
  const rows = await db
    .selectFrom("organization_member")
    .innerJoin("organization", "organization.id", "organization_member.organization_id")
    .innerJoin("user_account", "user_account.id", "organization_member.user_id")
    .innerJoin("role", "role.id", "organization_member.role_id")
    .select(["username", "role.name as role"])
    .where("organization.name", "=", organization)
    .orderBy("username")
    .execute();
  return rows.map(({ username, role }) => `${username} ${role}`);
}
