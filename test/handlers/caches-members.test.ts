import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let t: TestApp;
let admin: TestUser;
let viewer: TestUser;
let stranger: TestUser;
beforeAll(async () => {
  t = await withApp();
  admin = await t.user("Admina");
  viewer = await t.user("Viewer");
  stranger = await t.user("Stranger");
  await t.ask("PUT", "/caches", { token: admin.token, body: { name: "depot", display_name: "Depot" } });
});
afterAll(() => t[Symbol.asyncDispose]());

const members = (method: string, body?: object, by = admin) =>
  t.ask(method, "/caches/depot/members", { token: by.token, ...(body && { body }) });

test("members of a cache are added, changed and removed by name, the user in the body or in the path", async () => {
  expect((await members("GET")).body.message).toEqual([{ id: "Admina", name: "Admin" }]);
  expect((await t.ask("GET", "/caches/depot", { token: viewer.token })).status).toBe(404);
  expect((await members("POST", { user: "Viewer", role: "View" })).status).toBe(200);
  expect((await members("POST", { user: "Viewer", role: "View" })).status).toBe(409);
  expect((await t.ask("GET", "/caches/depot", { token: viewer.token })).body.message).toMatchObject({
    can_edit: false,
  });
  expect((await members("PATCH", { user: "Viewer", role: "Write" })).status).toBe(200);
  expect((await members("PATCH", { user: "Stranger", role: "View" })).body.code).toBe("bad_request");
  expect((await members("POST", { user: "Nobody", role: "View" })).status).toBe(404);
  expect((await members("POST", { user: "Stranger", role: "Nothing" })).status).toBe(404);
  expect((await members("GET", undefined, viewer)).body.message).toEqual([
    { id: "Admina", name: "Admin" },
    { id: "Viewer", name: "Write" },
  ]);
  expect((await members("DELETE", { user: "Viewer" })).status).toBe(200);
  expect((await members("DELETE", { user: "Viewer" })).body.code).toBe("bad_request");
  expect((await members("POST", { user: "Viewer", role: "View" })).status).toBe(200);
  expect((await t.ask("DELETE", "/caches/depot/members/Viewer", { token: admin.token })).status).toBe(200);
  expect((await t.ask("GET", "/caches/depot", { token: viewer.token })).status).toBe(404);
});

test("a stranger learns nothing of the members, of a public cache neither", async () => {
  const unknown = (method: string, body?: object) =>
    t.ask(method, "/caches/no-such/members", { token: stranger.token, ...(body && { body }) });
  const body = { user: "Stranger", role: "Admin" };
  for (const isPublic of [false, true]) {
    await t.ask(isPublic ? "POST" : "DELETE", "/caches/depot/public", { token: admin.token });
    expect((await members("POST", body, stranger)).text).toBe((await unknown("POST", body)).text);
    expect((await members("GET", undefined, stranger)).text).toBe((await unknown("GET")).text);
  }
  expect((await t.ask("GET", "/caches/depot/members")).status).toBe(401);
  await t.ask("DELETE", "/caches/depot/public", { token: admin.token });
});

test("what the configuration declares keeps its members and roles", async () => {
  await t.db.updateTable("cache").set({ managed: true }).where("name", "=", "depot").execute();
  expect((await members("POST", { user: "Viewer", role: "View" })).body.code).toBe("forbidden");
  const body = { name: "r", permissions: ["viewCache"] };
  expect((await t.ask("POST", "/caches/depot/roles", { token: admin.token, body })).body.code).toBe("forbidden");
  expect((await members("GET")).status).toBe(200);
  await t.db.updateTable("cache").set({ managed: false }).where("name", "=", "depot").execute();
});

test("public caches are listed for everyone, and names are free or not", async () => {
  await t.ask("POST", "/caches/depot/public", { token: admin.token });
  expect((await t.ask("GET", "/caches/public")).body.message).toMatchObject([{ name: "depot", can_edit: false }]);
  const free = async (name: string) =>
    (await t.ask("GET", `/caches/available?name=${name}`, { token: admin.token })).body.message;
  expect([await free("depot"), await free("fresh"), await free("public")]).toEqual([false, true, false]);
  await t.ask("DELETE", "/caches/depot/active", { token: admin.token });
  expect((await t.ask("GET", "/caches/depot", { token: admin.token })).body.message).toMatchObject({ active: false });
  await t.ask("POST", "/caches/depot/active", { token: admin.token });
  await t.ask("DELETE", "/caches/depot/public", { token: admin.token });
  expect((await t.ask("GET", "/caches/public")).body.message).toEqual([]);
});
