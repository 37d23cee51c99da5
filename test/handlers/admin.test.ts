import { afterAll, beforeAll, expect, test } from "vitest";
import { isDraining } from "#core/db/scheduler-state.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let app: TestApp;
let root: TestUser;
beforeAll(async () => {
  app = await withApp();
  root = await app.user("rhea", { superuser: true });
});
afterAll(() => app[Symbol.asyncDispose]());

test("a superuser has the instance drain, and every server is told", async () => {
  app.notified.length = 0;
  const drain = (enabled: unknown) => app.ask("POST", "/admin/draining", { token: root.token, body: { enabled } });
  expect((await drain(true)).body.message).toEqual({ draining: true });
  expect(await isDraining(app.db)).toBe(true);
  expect((await drain(true)).body.message).toEqual({ draining: true });
  expect(app.notified).toHaveLength(1);
  expect((await drain(false)).body.message).toEqual({ draining: false });
  expect(await isDraining(app.db)).toBe(false);
  expect((await drain("yes")).body.code).toBe("validation");
});

test("nobody else does, and no key of a superuser", async () => {
  const user = await app.user("ursula");
  const drain = (token?: string) =>
    app.ask("POST", "/admin/draining", { ...(token && { token }), body: { enabled: true } });
  expect((await drain()).status).toBe(401);
  expect([(await drain(user.token)).status, (await drain(user.token)).body.code]).toEqual([403, "superuser_required"]);
  const key = await app.ask("POST", "/user/keys", {
    token: root.token,
    body: { name: "k", permissions: ["viewOrg"] },
  });
  expect((await drain(key.body.message)).body.code).toBe("superuser_required");
  expect(await isDraining(app.db)).toBe(false);
});
