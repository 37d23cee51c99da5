import { afterAll, beforeAll, expect, test } from "vitest";
import { untilSomebodyWaits } from "../support/locks.ts";
import { type Answer, type TestApp, type TestUser, withApp } from "./support.ts";

let t: TestApp;
let admin: TestUser;
let friend: TestUser;
beforeAll(async () => {
  t = await withApp();
  admin = await t.user("Admina");
  friend = await t.user("Friend");
  await t.ask("PUT", "/caches", { token: admin.token, body: { name: "depot", display_name: "Depot" } });
});
afterAll(() => t[Symbol.asyncDispose]());

let counter = 0;

/** What a request gets that waits for a deletion which goes on while it is asked. */
async function askWhile(
  deleted: "organization" | "user_account",
  request: (organization: string) => Promise<Answer>,
): Promise<Answer> {
  const name = `brief-${++counter}`;
  await t.ask("PUT", "/orgs", { token: admin.token, body: { name, display_name: name } });
  const [column, value] = deleted === "organization" ? (["name", name] as const) : (["username", "Friend"] as const);
  const { answer } = await t.db.transaction().execute(async (trx) => {
    await (column === "name"
      ? trx.deleteFrom("organization").where("name", "=", value).execute()
      : trx.deleteFrom("user_account").where("username", "=", value).execute());
    const asked = request(name);
    await untilSomebodyWaits(t.db);
    return { answer: asked };
  });
  return await answer;
}

const ask = (method: string, path: string, body?: object) =>
  t.ask(method, path, { token: admin.token, ...(body && { body }) });

test("what refers to an organization that goes at this moment is refused, and is no failure", async () => {
  const integration = { name: "forge", kind: "inbound", forge_type: "gitea" };
  const key = (organization: string) => ({ name: organization, permissions: ["viewOrg"], organization });
  const requests: [number, (name: string) => Promise<Answer>][] = [
    [409, (name) => ask("PUT", `/orgs/${name}/integrations`, integration)],
    [409, (name) => ask("POST", `/orgs/${name}/subscribe/depot`)],
    [409, (name) => ask("POST", "/user/keys", key(name))],
    [404, (name) => ask("POST", `/orgs/${name}/users`, { user: "Friend", role: "View" })],
    [404, (name) => ask("POST", `/orgs/${name}/roles`, { name: "r", permissions: ["viewOrg"] })],
    [404, (name) => ask("DELETE", `/orgs/${name}`)],
    [200, (name) => ask("PATCH", `/orgs/${name}`, { description: "late" })],
    [200, (name) => ask("POST", `/orgs/${name}/forge-webhook-secret`)],
  ];
  for (const [status, request] of requests) {
    const answer = await askWhile("organization", request);
    expect([request.toString(), answer.status]).toEqual([request.toString(), status]);
  }
});

test("a member who goes while being added is no failure", async () => {
  const path = (name: string) => `/orgs/${name}/users`;
  const answer = await askWhile("user_account", (name) => ask("POST", path(name), { user: "Friend", role: "View" }));
  expect([answer.status, answer.body.code]).toEqual([409, "conflict"]);
  const { rows } = { rows: await t.db.selectFrom("user_account").select("id").where("id", "=", friend.id).execute() };
  expect(rows).toEqual([]);
});
