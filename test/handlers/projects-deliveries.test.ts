import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { MailRefusedError } from "#core/ports/mailer.ts";
import { tellBuilds } from "#core/services/action-builds.ts";
import { deliverActions, tidyDeliveries } from "#core/services/action-delivery.ts";
import { createApp } from "#handlers/app.ts";
import { COMMIT, insertBuild, insertEvaluationRow, linkBuild, newId } from "../support/rows.ts";
import { type ActionsBench, withActions } from "./actions-support.ts";

let bench: ActionsBench;
let { api, ask, url, deps, received, mails } = {} as ActionsBench;
beforeAll(async () => {
  bench = await withActions();
  ({ api, ask, url, deps, received, mails } = bench);
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(() => bench.forget());

test("an evaluation's events are sent with the token, in words that name no secret, and shown", async () => {
  const { id: projectId, path } = await bench.project();
  const events = ["evaluation.queued", "evaluation.started", "evaluation.failed", "evaluation.aborted"];
  const { action, token } = (await ask("POST", path, api.admin, bench.hook(events))).message;
  await api.db
    .updateTable("project")
    .set({ repository: "https://me:secret@example.com/x" })
    .where("id", "=", projectId)
    .execute();
  api.git.resolve = async () => ({ commit: COMMIT, ref: "HEAD" });
  await ask("POST", `${path.slice(0, -"/actions".length)}/evaluate`);
  const evaluation = await api.db
    .selectFrom("evaluation")
    .select("id")
    .where("project_id", "=", projectId)
    .executeTakeFirstOrThrow();
  const change = async (set: Record<string, unknown>) =>
    await api.db.updateTable("evaluation").set(set).where("id", "=", evaluation.id).execute();
  await change({ status: 8, fetch_started_at: new Date() });
  await change({ status: 0 });
  await change({ status: 1 });
  await change({ status: 3, building_started_at: new Date() });
  await change({ status: 6 });
  await change({ status: 6 });
  await bench.deliverAll();

  const told = received.map(({ headers, body }) => [headers["x-gradient-event"], JSON.parse(body)]);
  const facts = {
    evaluation_id: evaluation.id,
    project_id: projectId,
    repository: "https://***@example.com/x",
    evaluation_kind: "Normal",
  };
  expect(told.sort()).toEqual([
    ["evaluation.failed", { ...facts, status: "Failed" }],
    ["evaluation.queued", { ...facts, status: "Queued" }],
    ["evaluation.started", { ...facts, status: "Fetching" }],
  ]);
  expect(new Set(received.map(({ headers }) => headers.authorization))).toEqual(new Set([`Bearer ${token}`]));
  expect(new Set(received.map(({ headers }) => headers["x-gradient-delivery"])).size).toBe(3);
  const listed = (await bench.deliveries(path, action.id)).message;
  expect(listed).toHaveLength(3);
  expect(listed[0]).toMatchObject({ success: true, response_status: 200, error_message: null });
  const one = (await ask("GET", `${path}/${action.id}/deliveries/${listed[0].id}`)).message;
  expect([JSON.parse(one.request_body), one.response_body]).toEqual([expect.objectContaining(facts), "thanks"]);
  // What somebody answered is no business of all members.
  expect((await ask("GET", `${path}/${action.id}/deliveries`, api.viewer)).status).toBe(200);
  expect((await ask("GET", `${path}/${action.id}/deliveries/${listed[0].id}`, api.viewer)).status).toBe(403);
  expect(await ask("GET", `${path}/${action.id}/deliveries?limit=1&offset=2`)).toMatchObject({ message: [listed[2]] });
  expect((await ask("GET", `${path}/${action.id}`)).message.last_fired_at).not.toBeNull();
});

test("nobody is told by an action that is off, of what it did not ask for, or of what is undone", async () => {
  const { id: projectId, path } = await bench.project();
  await ask("POST", path, api.admin, { ...bench.hook(["evaluation.queued"]), active: false });
  await ask("POST", path, api.admin, { ...bench.hook(["evaluation.completed"]), name: "later" });
  await ask("POST", path, api.admin, { ...bench.hook(["evaluation.queued"]), name: "undone" });
  const undone = api.db.transaction().execute(async (trx) => {
    await insertEvaluationRow(trx as never, { organizationId: api.organizationId, projectId, status: 0 });
    throw new Error("undone");
  });
  await expect(undone).rejects.toThrow("undone");
  await bench.deliverAll();
  expect(received).toEqual([]);
});

test("a build's steps are told in their order, each once, also those between two looks", async () => {
  const { id: projectId, path } = await bench.project();
  const { organizationId } = api;
  const events = ["created", "queued", "started", "completed", "failed", "substituted"].map((name) => `build.${name}`);
  const { action } = (await ask("POST", path, api.admin, bench.hook(events))).message;
  const evaluationId = await insertEvaluationRow(api.db, { organizationId, projectId, status: 3 });
  const names = ["waits", "works", "fails", "known", "below"];
  const statuses = [0, 3, 4, 7, 6];
  const builds: string[] = [];
  for (const name of names) {
    const build = await insertBuild(api.db, { organizationId, name });
    await linkBuild(api.db, evaluationId, build);
    builds.push(build);
  }
  const look = async () => {
    await api.db
      .updateTable("action_watch")
      .set({ looked_at: new Date(0) })
      .execute();
    while (await tellBuilds(api.deps));
  };
  await look();
  await look();
  for (const [index, id] of builds.entries()) {
    await api.db
      .updateTable("build")
      .set({ status: statuses[index] as number })
      .where("id", "=", id)
      .execute();
  }
  await look();
  await api.db
    .updateTable("build")
    .set({ status: 1 })
    .where("id", "=", builds[0] as string)
    .execute();
  await look();
  await api.db.updateTable("evaluation").set({ status: 6 }).where("id", "=", evaluationId).execute();
  await look();
  expect(await api.db.selectFrom("action_watch").selectAll().execute()).toEqual([]);
  expect(await api.db.selectFrom("action_told_build").selectAll().execute()).toEqual([]);

  const rows = await api.db
    .selectFrom("action_delivery")
    .select(["event", "facts"])
    .where("action_id", "=", action.id)
    .orderBy("created_at")
    .execute();
  const of = (name: string) =>
    rows.filter(({ facts }) => facts.derivation?.startsWith(name)).map(({ event }) => event.slice("build.".length));
  expect(names.map(of)).toEqual([
    ["created", "queued"],
    ["created", "queued", "started", "completed"],
    ["created", "queued", "started", "failed"],
    ["created", "substituted"],
    ["created"],
  ]);
  await bench.deliverAll();
  const body = JSON.parse(received.find(({ headers }) => headers["x-gradient-event"] === "build.failed")?.body ?? "{}");
  expect(body).toEqual({
    build_id: expect.any(String),
    evaluation_id: evaluationId,
    derivation_path: expect.stringMatching(/^fails-.*\.drv$/),
    status: "FailedPermanent",
    evaluation_kind: "Normal",
  });
});

test("what fails for now is tried again five times in all, what is refused for good is not", async () => {
  const { id: projectId, path } = await bench.project();
  const { action } = (await ask("POST", path, api.admin, bench.hook(["evaluation.completed"]))).message;
  const complete = () =>
    insertEvaluationRow(api.db, { organizationId: api.organizationId, projectId, status: 3 }).then((id) =>
      api.db.updateTable("evaluation").set({ status: 5 }).where("id", "=", id).execute(),
    );
  bench.answer = { status: 503, body: "later" };
  await complete();
  for (let attempt = 1; attempt <= 6; attempt++) {
    expect((await bench.deliveries(path, action.id)).message).toHaveLength(attempt <= 5 ? 0 : 1);
    await bench.deliverAll();
  }
  expect(new Set(received.map(({ headers }) => headers["x-gradient-delivery"])).size).toBe(1);
  expect(received).toHaveLength(5);
  expect((await bench.deliveries(path, action.id)).message).toMatchObject([{ success: false, response_status: 503 }]);

  bench.answer = { status: 404, body: "x".repeat(100_000) };
  await complete();
  await bench.deliverAll();
  expect(received).toHaveLength(6);
  const [last] = (await bench.deliveries(path, action.id)).message;
  expect(last).toMatchObject({ response_status: 404, error_message: "it answered with status 404" });
  const detail = (await ask("GET", `${path}/${action.id}/deliveries/${last.id}`)).message;
  expect(detail.response_body).toHaveLength(64 * 1024);
});

test("who does not answer waits longer and longer, and everybody else has their turn", async () => {
  const broken = await bench.project();
  const { action } = (await ask("POST", broken.path, api.admin, bench.hook(["evaluation.queued"]))).message;
  const { organizationId } = api;
  const queue = (projectId: string) => insertEvaluationRow(api.db, { organizationId, projectId, status: 0 });
  const tried = async () => {
    const before = received.length;
    while (await deliverActions(deps));
    return received.length - before;
  };
  const pauses: number[] = [];
  bench.answer = { status: 500, body: "" };
  for (let round = 0; round < 4; round++) {
    await queue(broken.id);
    await api.db.updateTable("project_action").set({ paused_until: null }).where("id", "=", action.id).execute();
    expect(await tried()).toBe(1);
    await queue(broken.id);
    expect(await tried()).toBe(0);
    await api.db.deleteFrom("action_delivery").where("action_id", "=", action.id).execute();
    const row = api.db.selectFrom("project_action").select(["paused_until", "failures"]).where("id", "=", action.id);
    const { paused_until, failures } = await row.executeTakeFirstOrThrow();
    pauses.push(Math.round(((paused_until?.getTime() ?? 0) - Date.now()) / 5_000));
    expect(failures).toBe(round + 1);
  }
  expect(pauses).toEqual([1, 2, 4, 8]);

  bench.answer = { status: 200, body: "" };
  const well = await bench.project();
  await ask("POST", well.path, api.admin, bench.hook(["evaluation.queued"]));
  await queue(broken.id);
  await queue(well.id);
  expect(await tried()).toBe(1);
  await api.db.updateTable("project_action").set({ paused_until: null }).where("id", "=", action.id).execute();
  expect(await tried()).toBe(1);
  const row = api.db.selectFrom("project_action").select("failures").where("id", "=", action.id);
  expect(await row.executeTakeFirst()).toEqual({ failures: 0 });
});

test("what waits for an action that is switched off is not sent, then or later", async () => {
  const { id: projectId, path } = await bench.project();
  const { action } = (await ask("POST", path, api.admin, bench.hook(["evaluation.queued"]))).message;
  await insertEvaluationRow(api.db, { organizationId: api.organizationId, projectId, status: 0 });
  await ask("PATCH", `${path}/${action.id}`, api.admin, { active: false });
  await ask("PATCH", `${path}/${action.id}`, api.admin, { active: true });
  await bench.deliverAll();
  expect(received).toEqual([]);
});

test("builds are told no further while ten thousand words of them wait, and then as they stand", async () => {
  const { id: projectId, path } = await bench.project();
  const { organizationId } = api;
  const { action } = (await ask("POST", path, api.admin, bench.hook(["build.completed"]))).message;
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId, status: 3 });
  await linkBuild(api.db, evaluation, await insertBuild(api.db, { organizationId, name: "x", status: 3 }));
  await sql`insert into action_delivery (id, action_id, event, facts)
    select gen_random_uuid(), ${action.id}, 'build.completed', '{}' from generate_series(1, 10001)`.execute(api.db);
  await api.db
    .updateTable("action_watch")
    .set({ looked_at: new Date(0) })
    .execute();
  expect(await tellBuilds(api.deps)).toBe(false);
  await api.db.deleteFrom("action_delivery").where("action_id", "=", action.id).execute();
  expect(await tellBuilds(api.deps)).toBe(true);
  const rows = api.db.selectFrom("action_delivery").select("event").where("action_id", "=", action.id);
  expect(await rows.execute()).toEqual([{ event: "build.completed" }]);
});

test("no request goes where the operator lets none, nor where an answer would send it", async () => {
  const { path } = await bench.project();
  const config = { type: "send_web_request", url: "http://10.0.0.1/x" };
  const refused = (await ask("POST", path, api.admin, { name: "refused", config })).message.action;
  const failed = await ask("POST", `${path}/${refused.id}/test`);
  expect([failed.status, failed.message]).toEqual([503, expect.stringContaining("10.0.0.1")]);
  expect((await bench.deliveries(path, refused.id)).message).toMatchObject([{ success: false, response_status: null }]);

  const { action } = (await ask("POST", path, api.admin, bench.hook())).message;
  bench.answer = { status: 302, body: "" };
  expect((await ask("POST", `${path}/${action.id}/test`)).status).toBe(503);
  expect(received).toHaveLength(1);
});

test("tests send a few mails at once, and then one a minute for whoever asks", async () => {
  const { path } = await bench.project();
  const config = { type: "send_mail", recipients: ["team@example.com"] };
  const app = createApp(deps);
  const ask = async (method: string, to: string, body?: object) => {
    const headers = { authorization: `Bearer ${api.admin.token}`, "content-type": "application/json" };
    const init = { method, headers, ...(body && { body: JSON.stringify(body) }) };
    return await app.request(`http://127.0.0.1/api/v1${to}`, init);
  };
  const made = await ask("POST", path, { name: "mail", events: ["evaluation.failed"], config });
  const { message } = (await made.json()) as { message: { action: { id: string } } };
  const statuses = [];
  for (let i = 0; i < 4; i++) statuses.push((await ask("POST", `${path}/${message.action.id}/test`)).status);
  expect(statuses).toEqual([200, 200, 200, 429]);
  expect(bench.mails).toHaveLength(3);
});

test("a test sends one request at once, and a new token replaces the old one", async () => {
  const { path } = await bench.project();
  const { action, token } = (await ask("POST", path, api.admin, bench.hook())).message;
  expect(await ask("POST", `${path}/${action.id}/test`)).toMatchObject({ status: 200, message: null });
  const { message: fresh } = await ask("POST", `${path}/${action.id}/regenerate-token`);
  expect(fresh.token).not.toBe(token);
  await ask("POST", `${path}/${action.id}/test`);
  const config = { type: "send_web_request", url, token: "of-their-own" };
  await ask("PATCH", `${path}/${action.id}`, api.admin, { config });
  await ask("POST", `${path}/${action.id}/test`);
  await ask("PATCH", `${path}/${action.id}`, api.admin, { config: { type: "send_web_request", url } });
  await ask("POST", `${path}/${action.id}/test`);
  const expected = [token, fresh.token, "of-their-own", "of-their-own"].map((secret) => `Bearer ${secret}`);
  expect(received.map(({ headers }) => headers.authorization)).toEqual(expected);
  expect((await bench.deliveries(path, action.id)).message).toHaveLength(4);
});

test("mails go to everybody who is named, one each, with what the subject asks for", async () => {
  const { name, path } = await bench.project();
  const recipients = ["ada@example.com", "bob@example.com"];
  const subject_template = "{org}/{project}: {event} is {status}\r\nBcc: {nobody} {constructor}";
  const config = { type: "send_mail", recipients, subject_template };
  const made = (await ask("POST", path, api.admin, { name: "mail", config, events: ["evaluation.failed"] })).message;
  expect(made).toMatchObject({ action: { config } });
  expect(made.token).toBeUndefined();
  expect((await ask("POST", `${path}/${made.action.id}/test`)).status).toBe(200);
  expect(mails.map(({ to }) => to)).toEqual(recipients);
  const subject = `acme/${name}: evaluation.completed is Completed Bcc: {nobody} {constructor}`;
  expect(mails[0]).toMatchObject({ subject, text: expect.stringContaining(`/organization/acme/log/`) });
  expect(new Set(mails.map(({ id }) => id)).size).toBe(2);
  expect((await ask("POST", `${path}/${made.action.id}/regenerate-token`)).status).toBe(422);

  bench.mailError = new Error("connect ECONNREFUSED mail.internal:25");
  const down = await ask("POST", `${path}/${made.action.id}/test`);
  expect([down.status, down.message]).toEqual([503, expect.stringContaining("cannot be reached")]);
  expect(down.message).not.toContain("mail.internal");

  bench.mailError = new MailRefusedError("550 no such user");
  mails.length = 0;
  const failed = await ask("POST", `${path}/${made.action.id}/test`);
  expect([failed.status, failed.message]).toEqual([503, "The action failed: 550 no such user"]);
});

test("of each action a thousand deliveries stay, for a month", async () => {
  const { path } = await bench.project();
  const { action } = (await ask("POST", path, api.admin, bench.hook())).message;
  const facts = JSON.stringify({ evaluation_id: newId(), project_id: newId(), repository: "", kind: 0, status: 5 });
  const row = { action_id: action.id, event: "evaluation.completed", facts, success: true };
  const day = 86_400_000;
  const rows = Array.from({ length: 1_010 }, (_, index) => ({
    ...row,
    id: newId(),
    delivered_at: new Date(Date.now() - index * 1_000 - (index < 5 ? 31 * day : 0)),
  }));
  for (let at = 0; at < rows.length; at += 505) {
    await api.db
      .insertInto("action_delivery")
      .values(rows.slice(at, at + 505))
      .execute();
  }
  await tidyDeliveries(deps);
  const left = await api.db.selectFrom("action_delivery").select("id").where("action_id", "=", action.id).execute();
  const ids = new Set(left.map(({ id }) => id));
  expect(rows.map(({ id }, index) => (ids.has(id) ? null : index)).filter((index) => index !== null)).toEqual([
    0, 1, 2, 3, 4, 1005, 1006, 1007, 1008, 1009,
  ]);
});
