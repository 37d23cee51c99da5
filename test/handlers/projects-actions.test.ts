import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { untilSomebodyWaits } from "../support/locks.ts";
import { newId } from "../support/rows.ts";
import { type ActionsBench, withActions } from "./actions-support.ts";

let bench: ActionsBench;
let { api, ask, url, received } = {} as ActionsBench;
beforeAll(async () => {
  bench = await withActions();
  ({ api, ask, url, received } = bench);
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(() => bench.forget());

test("an action is made, shown, changed and removed, and its token is told once", async () => {
  const { path } = await bench.project();
  const made = await ask("POST", path, api.writer, bench.hook(["evaluation.failed", "build.failed", "build.failed"]));
  expect(made.message).toEqual({
    action: {
      id: expect.any(String),
      name: "hook",
      action_type: "send_web_request",
      config: { type: "send_web_request", url },
      events: ["build.failed", "evaluation.failed"],
      active: true,
      last_fired_at: null,
      created_by: api.writer.id,
      created_at: expect.any(String),
      updated_at: expect.any(String),
    },
    token: expect.stringMatching(/^gat_[A-Za-z0-9_-]{43}$/),
  });
  const { action, token } = made.message;
  expect((await ask("GET", `${path}/${action.id}`, api.writer)).message).toEqual(action);
  // Whoever knows where a web request goes may be able to send one.
  const shown = await ask("GET", `${path}/${action.id}`, api.viewer);
  const hidden = { type: "send_web_request", url: `${new URL(url).origin}/***` };
  expect(shown.message).toEqual({ ...action, config: hidden });
  expect((await ask("GET", path, api.viewer)).text).not.toContain(token);
  const rows = await api.db.selectFrom("project_action").selectAll().execute();
  expect(
    JSON.stringify(rows.map((row) => [row.config, Buffer.from(row.token ?? []).toString("latin1")])),
  ).not.toContain(token);

  const changed = await ask("PATCH", `${path}/${action.id}`, api.writer, { name: "other", active: false });
  expect(changed.message).toMatchObject({ name: "other", active: false, config: { url } });
  const away = { config: { type: "send_web_request", url: "https://elsewhere.example.com/" } };
  const moved = await ask("PATCH", `${path}/${action.id}`, api.writer, away);
  expect([moved.status, moved.message], "who may not read the token does not have it sent to themselves").toEqual([
    400,
    expect.stringContaining("config.token"),
  ]);
  const own = { config: { ...away.config, token: "another" } };
  expect((await ask("PATCH", `${path}/${action.id}`, api.writer, own)).status).toBe(200);
  const type = await ask("PATCH", `${path}/${action.id}`, api.writer, {
    config: { type: "send_mail", recipients: ["a@example.com"] },
  });
  expect([type.status, type.message]).toEqual([400, expect.stringContaining("stays of its type")]);
  expect((await ask("POST", path, api.writer, { ...bench.hook(), name: "other" })).status).toBe(409);

  expect((await ask("DELETE", `${path}/${action.id}`, api.writer)).status).toBe(200);
  expect((await ask("GET", `${path}/${action.id}`)).status).toBe(404);
});

test("what could never be delivered is refused with words", async () => {
  const { path } = await bench.project();
  const mail = (recipients: unknown) => ({ type: "send_mail", recipients });
  const cases: [unknown, number, RegExp][] = [
    [{ type: "send_web_request", url: "ftp://example.com" }, 422, /https:/],
    [{ type: "send_web_request", url: "not a url" }, 422, /https:/],
    [{ type: "send_web_request", url: "https://a:b@example.com" }, 422, /token/],
    [{ type: "send_web_request", url, token: "two words" }, 422, /printable ASCII/],
    [mail([]), 422, /whom/],
    [mail(["a@example.com, b@example.com"]), 422, /no e-mail address/],
    [mail(["a@example.com\r\nBcc: b@example.com"]), 422, /no e-mail address/],
    [mail(Array.from({ length: 21 }, () => "a@example.com")), 400, /more than 20/],
    [{ type: "open_pr" }, 400, /send_mail/],
  ];
  for (const [config, status, words] of cases) {
    const refused = await ask("POST", path, api.admin, { name: "x", config });
    expect([refused.status, refused.message]).toEqual([status, expect.stringMatching(words)]);
  }
  const event = await ask("POST", path, api.admin, bench.hook(["evaluation.exploded"]));
  expect([event.status, event.message]).toEqual([
    400,
    expect.stringContaining("events.0: must be one of build.created"),
  ]);
  // Of a server without mail.
  const off = await api.ask("POST", path, api.admin, { name: "x", config: mail(["a@example.com"]) });
  expect([off.status, off.code]).toEqual([422, "unprocessable_entity"]);
});

test("what is no text becomes some, and no fault of the server", async () => {
  const { path } = await bench.project();
  const config = { type: "send_mail", recipients: ["a\ud800@example.com"], subject_template: "\udc00" };
  const made = await ask("POST", path, api.writer, { name: "\ud800", config });
  expect(made.message.action).toMatchObject({ config: { subject_template: "\ufffd" } });
  expect((await ask("POST", `${path}/${made.message.action.id}/test`)).status).toBe(200);
});

test("a new token for an action that goes at this moment is refused, and is no failure", async () => {
  const { path } = await bench.project();
  const { id } = (await ask("POST", path, api.admin, bench.hook())).message.action;
  const { asked } = await api.db.transaction().execute(async (trx) => {
    await trx.deleteFrom("project_action").where("id", "=", id).execute();
    const begun = ask("POST", `${path}/${id}/regenerate-token`, api.admin);
    await untilSomebodyWaits(api.db);
    return { asked: begun };
  });
  expect((await asked).status).toBe(404);
});

test("who may only look changes nothing, and a stranger learns nothing", async () => {
  const { path } = await bench.project();
  const { id } = (await ask("POST", path, api.admin, bench.hook())).message.action;
  const writes: [string, string, unknown?][] = [
    ["POST", path, bench.hook()],
    ["PATCH", `${path}/${id}`, {}],
    ["DELETE", `${path}/${id}`],
    ["POST", `${path}/${id}/test`],
    ["POST", `${path}/${id}/regenerate-token`],
  ];
  for (const [method, address, body] of writes) expect((await ask(method, address, api.viewer, body)).status).toBe(403);
  const all = [
    ...writes,
    ["GET", path],
    ["GET", `${path}/${id}`],
    ["GET", `${path}/${id}/deliveries`],
  ] as typeof writes;
  for (const [method, address, body] of all) {
    expect((await ask(method, address, api.stranger, body)).status).toBe(404);
    expect((await ask(method, address, null, body)).status).toBe(401);
  }
  expect(received).toEqual([]);
});

test("an action for forges, which only the state file can have, has nothing to be tried", async () => {
  const { id: project_id, path } = await bench.project();
  const id = newId();
  const config = JSON.stringify({ integration: "ours" });
  await api.db.insertInto("project_action").values({ id, project_id, name: "forge", type: 2, config }).execute();
  expect((await ask("GET", path, api.viewer)).message).toMatchObject([{ action_type: "forge_status_report" }]);
  expect((await ask("POST", `${path}/${id}/test`)).status).toBe(422);
});
