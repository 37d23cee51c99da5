import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RoleView } from "#core/api/roles.ts";
import {
  CACHE_PERMISSIONS,
  CACHE_ROLE,
  ORGANIZATION_PERMISSIONS,
  ORGANIZATION_ROLE,
} from "#core/domain/permissions.ts";
import { untilSomebodyWaits } from "../support/locks.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let t: TestApp;
let admin: TestUser;
let deputy: TestUser;
let guest: TestUser;
beforeAll(async () => {
  t = await withApp();
  admin = await t.user("Admina");
  deputy = await t.user("Deputy");
  guest = await t.user("Guest");
});
afterAll(() => t[Symbol.asyncDispose]());

// What holds for organizations holds for caches, with other words.
const KINDS = [
  {
    kind: "organization",
    root: "/orgs",
    members: "users",
    owner: "organization",
    permissions: ORGANIZATION_PERMISSIONS,
    builtin: ORGANIZATION_ROLE,
    view: "viewOrg",
    memberships: "manageMembers",
    roles: "manageRoles",
    more: "deleteOrg",
  },
  {
    kind: "cache",
    root: "/caches",
    members: "members",
    owner: "cache",
    permissions: CACHE_PERMISSIONS,
    builtin: CACHE_ROLE,
    view: "viewCache",
    memberships: "manageCacheMembers",
    roles: "manageCacheRoles",
    more: "deleteCache",
  },
] as const;

let counter = 0;

describe.each(KINDS)("of an $kind", (k) => {
  /** A realm of Admina's, and how to ask things of it. */
  async function realm(): Promise<{ path: string; id: string }> {
    const name = `realm-${++counter}`;
    const body = { name, display_name: name };
    const answer = await t.ask("PUT", k.root, { token: admin.token, body });
    expect(answer.status).toBe(200);
    return { path: `${k.root}/${name}`, id: answer.body.message };
  }

  async function makeRole(path: string, name: string, permissions: readonly string[], by = admin) {
    return await t.ask("POST", `${path}/roles`, { token: by.token, body: { name, permissions } });
  }

  async function give(path: string, user: string, role: string, by = admin, method = "POST") {
    return await t.ask(method, `${path}/${k.members}`, { token: by.token, body: { user, role } });
  }

  async function members(path: string): Promise<Record<string, string>> {
    const { message } = (await t.ask("GET", `${path}/${k.members}`, { token: admin.token })).body;
    return Object.fromEntries((message as { id: string; name: string }[]).map(({ id, name }) => [id, name]));
  }

  test("the built-in roles come first, then its own, with all that a role may hold", async () => {
    const { path, id } = await realm();
    const made = await makeRole(path, "auditor", [k.view]);
    const listed = await t.ask("GET", `${path}/roles`, { token: admin.token });
    const { roles, available_permissions } = listed.body.message as {
      roles: RoleView[];
      available_permissions: { id: string; mutating: boolean }[];
    };
    expect(roles.map(({ name, builtin }) => [name, builtin])).toEqual([
      ["Admin", true],
      ["Write", true],
      ["View", true],
      ["auditor", false],
    ]);
    expect(roles[0]).toEqual({
      id: k.builtin.Admin,
      name: "Admin",
      [k.owner]: null,
      builtin: true,
      managed: false,
      permissions: k.permissions,
    });
    expect(available_permissions.map((permission) => permission.id)).toEqual(k.permissions);
    expect(available_permissions[0]).toEqual({ id: k.view, mutating: false });
    expect(made.body.message).toEqual({ ...roles[3], [k.owner]: id });
    expect((await t.ask("GET", `${path}/roles/${roles[3]?.id}`, { token: admin.token })).body.message).toEqual(
      roles[3],
    );
  });

  test("a role is renamed and given other permissions, which its members have at once; in use it stays", async () => {
    const { path } = await realm();
    const { id } = (await makeRole(path, "helper", [k.view])).body.message as RoleView;
    expect((await give(path, "Deputy", "helper")).status).toBe(200);
    const change = { name: "renamed", display_name: "x", description: "y" };
    const token = deputy.token;
    const settings = k.kind === "cache" ? "manageCacheSettings" : "manageOrgSettings";
    expect((await t.ask("PATCH", path, { token, body: { description: "mine" } })).status).toBe(403);
    const patched = await t.ask("PATCH", `${path}/roles/${id}`, {
      token: admin.token,
      body: { ...change, permissions: [settings, k.view] },
    });
    expect(patched.body.message).toMatchObject({ id, name: "renamed" });
    expect((patched.body.message as RoleView).permissions.toSorted()).toEqual([settings, k.view].toSorted());
    expect((await t.ask("PATCH", path, { token, body: { description: "mine" } })).status).toBe(200);

    const remove = () => t.ask("DELETE", `${path}/roles/${id}`, { token: admin.token });
    const refused = await remove();
    expect([refused.status, refused.body.code]).toEqual([400, "bad_request"]);
    expect((await give(path, "Deputy", "View", admin, "PATCH")).status).toBe(200);
    expect((await remove()).body.message).toBe(true);
    expect((await remove()).status).toBe(404);
  });

  test("built-in and declared roles stay as they are, and names are taken once", async () => {
    const { path } = await realm();
    const token = admin.token;
    const code = async (method: string, id: string, body?: object) =>
      (await t.ask(method, `${path}/roles/${id}`, { token, ...(body && { body }) })).body.code;
    for (const id of Object.values(k.builtin)) {
      expect(await code("PATCH", id, { permissions: [k.view] })).toBe("forbidden");
      expect(await code("DELETE", id)).toBe("forbidden");
    }
    const { id } = (await makeRole(path, "declared", [k.view])).body.message as RoleView;
    const table = k.kind === "cache" ? "cache_role" : "role";
    await t.db.updateTable(table).set({ managed: true }).where("id", "=", id).execute();
    expect(await code("PATCH", id, { name: "other" })).toBe("forbidden");
    expect(await code("DELETE", id)).toBe("forbidden");

    expect((await makeRole(path, "declared", [k.view])).body.code).toBe("already_exists");
    expect((await makeRole(path, "Admin", [k.view])).body.code).toBe("already_exists");
    expect((await makeRole(path, "view", [k.view])).body.code).toBe("already_exists");
    expect((await makeRole(path, "Not a name", [k.view])).body.code).toBe("invalid_name");
    expect((await makeRole(path, "odd", ["fly"])).body.code).toBe("validation");
    expect((await makeRole(path, "odd", [])).body.code).toBe("validation");
    const other = (await makeRole(path, "other", [k.view])).body.message as RoleView;
    expect(await code("PATCH", other.id, { name: "declared" })).toBe("already_exists");
  });

  test("a role of another is, byte for byte, one that does not exist", async () => {
    const [mine, theirs] = [await realm(), await realm()];
    const { id } = (await makeRole(theirs.path, "theirs", [k.view])).body.message as RoleView;
    const unknown = "00000000-0000-7000-8000-000000000000";
    for (const method of ["GET", "PATCH", "DELETE"]) {
      const ask = (role: string) =>
        t.ask(method, `${mine.path}/roles/${role}`, { token: admin.token, ...(method === "PATCH" && { body: {} }) });
      const foreign = await ask(id);
      expect([method, foreign.status, foreign.text]).toEqual([method, 404, (await ask(unknown)).text]);
    }
    expect((await give(mine.path, "Guest", "theirs")).status).toBe(404);
    expect((await t.ask("GET", `${mine.path}/roles`, { token: guest.token })).text).toBe(
      (await t.ask("GET", `${k.root}/no-such/roles`, { token: guest.token })).text,
    );
    expect((await t.ask("GET", `${mine.path}/roles`)).status).toBe(401);
  });

  test("nobody gives themselves or others more than they hold, by whichever way", async () => {
    const { path } = await realm();
    const own = [k.view, k.memberships, k.roles];
    const { id } = (await makeRole(path, "deputy", own)).body.message as RoleView;
    const strong = (await makeRole(path, "strong", [k.view, k.more])).body.message as RoleView;
    await give(path, "Deputy", "deputy");
    await give(path, "Guest", "strong");
    const before = (await t.ask("GET", `${path}/roles`, { token: admin.token })).text;
    const role = (method: string, which: string, body?: object) =>
      t.ask(method, `${path}/roles/${which}`, { token: deputy.token, ...(body && { body }) });
    const attempts = [
      makeRole(path, "more", [...own, k.more], deputy),
      role("PATCH", id, { permissions: [...own, k.more] }),
      role("PATCH", strong.id, { permissions: [k.view] }),
      role("PATCH", strong.id, { name: "weak" }),
      role("DELETE", strong.id),
      role("PATCH", k.builtin.View, { permissions: own }),
      give(path, "Deputy", "Admin", deputy, "PATCH"),
      give(path, "Deputy", "strong", deputy, "PATCH"),
      give(path, "Admina", "deputy", deputy, "PATCH"),
      give(path, "Guest", "deputy", deputy, "PATCH"),
      t.ask("DELETE", `${path}/${k.members}`, { token: deputy.token, body: { user: "Admina" } }),
      t.ask("DELETE", `${path}/${k.members}`, { token: deputy.token, body: { user: "Guest" } }),
    ];
    for (const attempt of attempts) expect((await attempt).body.code).toBe("forbidden");
    expect((await t.ask("GET", `${path}/roles`, { token: admin.token })).text).toBe(before);
    expect(await members(path)).toEqual({ Admina: "Admin", Deputy: "deputy", Guest: "strong" });

    // What one holds, one may hand on.
    expect((await makeRole(path, "assistant", [k.view, k.roles], deputy)).status).toBe(200);
    expect((await give(path, "Deputy", "assistant", deputy, "PATCH")).status).toBe(200);
    expect((await give(path, "Deputy", "deputy", deputy, "PATCH")).body.code).toBe("forbidden");
  });

  test("a key hands on no more than it holds, though its owner holds everything", async () => {
    const { path } = await realm();
    const name = path.split("/").at(-1);
    const body = { name: `key of ${name}`, permissions: [k.view, k.roles, k.memberships], [k.owner]: name };
    const key = (await t.ask("POST", "/user/keys", { token: admin.token, body })).body.message as string;
    const bearer = { ...admin, token: key };
    expect((await makeRole(path, "small", [k.view, k.roles], bearer)).status).toBe(200);
    expect((await makeRole(path, "large", [k.view, k.more], bearer)).body.code).toBe("forbidden");
    expect((await give(path, "Guest", "Admin", bearer)).body.code).toBe("forbidden");
    expect((await give(path, "Guest", "small", bearer)).status).toBe(200);
  });

  test("who is demoted while a change of theirs waits changes nothing", async () => {
    const { path, id } = await realm();
    await give(path, "Deputy", "Admin");
    const owner = k.kind === "cache" ? ("cache" as const) : ("organization" as const);
    const table = k.kind === "cache" ? ("cache_member" as const) : ("organization_member" as const);
    const attempts = [
      () => give(path, "Guest", "Admin", deputy),
      () => makeRole(path, "back-door", k.permissions, deputy),
      () => give(path, "Admina", "View", deputy, "PATCH"),
    ];
    for (const attempt of attempts) {
      const waiting = await t.db.transaction().execute(async (trx) => {
        await trx.selectFrom(owner).select("id").where("id", "=", id).forUpdate().execute();
        const answer = attempt();
        await untilSomebodyWaits(t.db);
        const demoted = { role_id: k.builtin.View };
        await trx.updateTable(table).set(demoted).where("user_id", "=", deputy.id).execute();
        return { answer };
      });
      expect((await waiting.answer).body.code).toBe("forbidden");
      await t.db.updateTable(table).set({ role_id: k.builtin.Admin }).where("user_id", "=", deputy.id).execute();
    }
    expect(await members(path)).toEqual({ Admina: "Admin", Deputy: "Admin" });
  });

  test("two Admins who demote each other at once leave one", async () => {
    for (let round = 0; round < 3; round++) {
      const { path } = await realm();
      await give(path, "Deputy", "Admin");
      const answers = await Promise.all([
        give(path, "Deputy", "View", admin, "PATCH"),
        give(path, "Admina", "View", deputy, "PATCH"),
      ]);
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
      expect(Object.values(await members(path)).toSorted()).toEqual(["Admin", "View"]);
    }
  });

  test("a role that is given and deleted at once is either given or gone", async () => {
    for (let round = 0; round < 3; round++) {
      const { path } = await realm();
      const { id } = (await makeRole(path, "fleeting", [k.view])).body.message as RoleView;
      const [given, deleted] = await Promise.all([
        give(path, "Guest", "fleeting"),
        t.ask("DELETE", `${path}/roles/${id}`, { token: admin.token }),
      ]);
      expect([
        [200, 400],
        [404, 200],
      ]).toContainEqual([given.status, deleted.status]);
    }
  });

  test("the last Admin stays; who cannot sign in does not count", async () => {
    const { path } = await realm();
    const sleeper = await t.user(`Sleeper${counter}`);
    await give(path, sleeper.username, "Admin");
    await t.db.updateTable("user_account").set({ active: false }).where("id", "=", sleeper.id).execute();
    expect((await give(path, "Admina", "View", admin, "PATCH")).body.code).toBe("conflict");
    const body = { user: "Admina" };
    const remove = await t.ask("DELETE", `${path}/${k.members}`, { token: admin.token, body });
    expect([remove.status, remove.body.code]).toEqual([409, "conflict"]);
    expect((await give(path, "Admina", "Admin", admin, "PATCH")).status).toBe(200);
  });
});
