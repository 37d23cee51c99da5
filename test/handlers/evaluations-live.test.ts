import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { serve } from "@hono/node-server";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createApp } from "#handlers/app.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { insertBuild, insertEvaluationRow, insertOrganization, insertProjectRow, linkBuild } from "../support/rows.ts";

let api: BuildsApi;
let organizationId: string;
let projectId: string;
beforeAll(async () => {
  api = await withBuildsApi();
  organizationId = api.organizationId;
  projectId = await insertProjectRow(api.db, { organizationId });
});
afterAll(() => api[Symbol.asyncDispose]());

interface LiveEvent {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: Record<string, unknown>;
}

/** The events of a stream as a client sees them; comments are left out. */
async function* events(response: Response): AsyncGenerator<LiveEvent> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const bytes of response.body as ReadableStream<Uint8Array>) {
    text += decoder.decode(bytes, { stream: true });
    for (let end = text.indexOf("\n\n"); end !== -1; end = text.indexOf("\n\n")) {
      const fields = Object.fromEntries(
        text
          .slice(0, end)
          .split("\n")
          .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]),
      );
      text = text.slice(end + 2);
      if (fields.data) yield { event: fields.event ?? "", id: fields.id, data: JSON.parse(fields.data) };
    }
  }
}

async function nextOf(stream: AsyncGenerator<LiveEvent>, event: string): Promise<LiveEvent> {
  for (;;) {
    const { done, value } = await stream.next();
    if (done) throw new Error(`the stream ended without ${event}`);
    if (value.event === event) return value;
  }
}

async function setBuild(id: string, status: number): Promise<void> {
  await api.db.updateTable("build").set({ status, updated_at: new Date() }).where("id", "=", id).execute();
}

async function setEvaluation(id: string, status: number): Promise<void> {
  await api.db.updateTable("evaluation").set({ status, updated_at: new Date() }).where("id", "=", id).execute();
}

test("a live stream tells the status, sees builds change, and ends with the evaluation", async () => {
  const id = await insertEvaluationRow(api.db, { organizationId, projectId });
  const build = await insertBuild(api.db, { organizationId, name: "tool", status: 1 });
  const link = await linkBuild(api.db, id, build);

  const response = await api.fetch("GET", `/evals/${id}/live`, api.viewer);
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  expect(response.headers.get("cache-control")).toBe("no-cache, no-store");
  const stream = events(response);
  const about = { evaluation_id: id, project: projectId };
  expect((await nextOf(stream, "evaluation_status_changed")).data).toEqual({
    ...about,
    type: "evaluation_status_changed",
    status: 3,
  });
  expect((await nextOf(stream, "build_status_changed")).data).toMatchObject({ build_id: link, status: 1 });

  await setBuild(build, 2);
  api.notifier.notify("evaluation", id);
  expect((await nextOf(stream, "build_status_changed")).data).toEqual({
    type: "build_status_changed",
    evaluation_id: id,
    build_id: link,
    status: 2,
  });
  expect((await nextOf(stream, "evaluation_progress")).data).toEqual({ ...about, type: "evaluation_progress" });

  await setBuild(build, 3);
  await setEvaluation(id, 5);
  api.notifier.notify("evaluation", id);
  expect((await nextOf(stream, "build_status_changed")).data).toMatchObject({ status: 3 });
  expect(await nextOf(stream, "evaluation_status_changed")).toMatchObject({ id: "ended", data: { status: 5 } });
  expect((await stream.next()).done).toBe(true);
});

test("a change that nobody announced is seen all the same", async () => {
  const id = await insertEvaluationRow(api.db, { organizationId, projectId });
  const stream = events(await api.fetch("GET", `/evals/${id}/live`));
  await nextOf(stream, "evaluation_status_changed");
  const next = nextOf(stream, "evaluation_status_changed");
  // The stream has looked and waits now; a slower one proves less and fails nothing.
  await sleep(1_000);
  await setEvaluation(id, 7);
  expect((await next).data).toMatchObject({ status: 7 });
  expect((await stream.next()).done).toBe(true);
});

test("the stream of an ended evaluation ends at once, and a browser that comes back is told to stop", async () => {
  const id = await insertEvaluationRow(api.db, { organizationId, projectId, status: 5 });
  const stream = events(await api.fetch("GET", `/evals/${id}/live`));
  expect(await nextOf(stream, "evaluation_status_changed")).toMatchObject({ id: "ended", data: { status: 5 } });
  expect((await stream.next()).done).toBe(true);

  const again = await api.fetch("GET", `/evals/${id}/live`, api.admin, { headers: { "last-event-id": "ended" } });
  expect(again.status).toBe(204);
});

test("who loses access to an evaluation sees nothing more of it", async () => {
  const id = await insertEvaluationRow(api.db, { organizationId, projectId });
  const stream = events(await api.fetch("GET", `/evals/${id}/live`, api.viewer));
  await nextOf(stream, "evaluation_status_changed");
  const member = api.db.deleteFrom("organization_member").where("user_id", "=", api.viewer.id);
  await member.execute();
  await setEvaluation(id, 7);
  api.notifier.notify("evaluation", id);
  expect((await stream.next()).done).toBe(true);
});

test("a server gives a bounded number of live streams, nobody has all of them, and who leaves makes room", async () => {
  const own = await insertOrganization(api.db, { name: "open", public: true });
  const id = await insertEvaluationRow(api.db, {
    organizationId: own,
    projectId: await insertProjectRow(api.db, { organizationId: own }),
  });
  const open: Response[] = [];
  const openAs = async (person: typeof api.admin | null, address: string): Promise<number> => {
    const headers = { "x-test-peer": address };
    for (;;) {
      const response = await api.fetch("GET", `/evals/${id}/live`, person, { headers });
      if (response.status !== 200) return response.status;
      open.push(response);
    }
  };
  const counts: number[][] = [];
  const people = [api.admin, api.writer, null, null, api.stranger] as const;
  for (const [index, person] of people.entries()) counts.push([await openAs(person, `192.0.2.${index}`), open.length]);
  expect(counts).toEqual([
    [429, 64],
    [429, 128],
    [429, 192],
    [429, 256],
    [503, 256],
  ]);

  await open.pop()?.body?.cancel();
  const after = await api.fetch("GET", `/evals/${id}/live`, api.stranger);
  expect(after.status).toBe(200);
  await Promise.all([after, ...open].map((response) => response.body?.cancel()));
});

test("over a socket events come at once, and a client that hangs up leaves nothing behind", async () => {
  const id = await insertEvaluationRow(api.db, { organizationId, projectId });
  const server = serve({ fetch: createApp(api.deps).fetch, hostname: "127.0.0.1", port: 0 });
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const before = api.listeners("evaluation");
  const hangUp = new AbortController();
  try {
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/evals/${id}/live`, {
      headers: { authorization: `Bearer ${api.admin.token}` },
      signal: hangUp.signal,
    });
    expect((await nextOf(events(response), "evaluation_status_changed")).data).toMatchObject({ status: 3 });
    expect(api.listeners("evaluation")).toBe(before + 1);

    hangUp.abort();
    await expect.poll(() => api.listeners("evaluation"), { timeout: 10_000 }).toBe(before);
  } finally {
    hangUp.abort();
    server.close();
  }
});

test("who was cut off is told what changed meanwhile, and who was away for too long has to read anew", async () => {
  const id = await insertEvaluationRow(api.db, { organizationId, projectId });
  const build = await insertBuild(api.db, { organizationId, name: "tool", status: 1 });
  const link = await linkBuild(api.db, id, build);
  const first = events(await api.fetch("GET", `/evals/${id}/live`));
  const { id: position } = await nextOf(first, "build_status_changed");
  await first.return(undefined);
  expect(position).toMatch(/^\d+$/);

  await setBuild(build, 2);
  const headers = { "last-event-id": position ?? "" };
  const second = events(await api.fetch("GET", `/evals/${id}/live`, api.admin, { headers }));
  expect((await second.next()).value).toMatchObject({ data: { type: "evaluation_status_changed", status: 3 } });
  expect((await second.next()).value).toMatchObject({ data: { build_id: link, status: 2 } });
  await second.return(undefined);

  const tomorrow = String(Number(position) + 86_400_000);
  for (const unknown of ["1", tomorrow, "nonsense"]) {
    const options = { headers: { "last-event-id": unknown } };
    const stream = events(await api.fetch("GET", `/evals/${id}/live`, api.admin, options));
    await stream.next();
    expect((await stream.next()).value, unknown).toMatchObject({
      data: { type: "evaluation_progress", read_anew: true },
    });
    await stream.return(undefined);
  }
});

test("where more changed than is told, the reader is told to read anew", async () => {
  const id = await insertEvaluationRow(api.db, { organizationId, projectId });
  await sql`
    with made as (
      insert into build (id, organization_id, drv_path, name, system, status)
      select gen_random_uuid(), ${organizationId}, 'many-' || n || '.drv', 'many', 'x86_64-linux', 1
      from generate_series(1, 1001) n returning id)
    insert into evaluation_build (id, evaluation_id, build_id) select gen_random_uuid(), ${id}, id from made`.execute(
    api.db,
  );
  const stream = events(await api.fetch("GET", `/evals/${id}/live`));
  expect((await nextOf(stream, "evaluation_progress")).data).toMatchObject({ read_anew: true });
  await stream.return(undefined);
});

test("a project's stream begins with what goes on, and tells of new evaluations, of builds and of ends", async () => {
  const own = await insertProjectRow(api.db, { organizationId, name: "watched" });
  const ended = await insertEvaluationRow(api.db, { organizationId, projectId: own, status: 5 });
  const id = await insertEvaluationRow(api.db, { organizationId, projectId: own, status: 3 });
  await sql`
    update evaluation set updated_at = updated_at - interval '1 hour' where id in (${ended}, ${id})`.execute(api.db);
  const stream = events(await api.fetch("GET", "/projects/acme/watched/live"));
  const statusOf = async () => {
    const { data } = await nextOf(stream, "evaluation_status_changed");
    return [data.project, data.evaluation_id, data.status];
  };
  expect(await statusOf()).toEqual([own, id, 3]);

  const build = await insertBuild(api.db, { organizationId, name: "tool", status: 1 });
  const link = await linkBuild(api.db, id, build);
  const foreign = await insertEvaluationRow(api.db, { organizationId, projectId, status: 0 });
  const newer = await insertEvaluationRow(api.db, { organizationId, projectId: own, status: 0 });
  for (const subject of [foreign, newer]) api.notifier.notify("evaluation", subject);
  const told = [await statusOf()];
  await setBuild(build, 3);
  await setEvaluation(id, 5);
  api.notifier.notify("evaluation", id);
  const change = await nextOf(stream, "build_status_changed");
  expect(change.data).toMatchObject({ evaluation_id: id, build_id: link });
  told.push(await statusOf());
  expect(told).toEqual([
    [own, newer, 0],
    [own, id, 5],
  ]);
  await stream.return(undefined);
});

test("who loses access to a project sees no more of it, and who never had it gets the answer for none", async () => {
  const hidden = await api.ask("GET", "/projects/acme/site/live", api.stranger);
  const missing = await api.ask("GET", "/projects/acme/none/live", api.stranger);
  expect([hidden.status, hidden.text]).toEqual([404, missing.text]);

  const stream = events(await api.fetch("GET", "/projects/acme/site/live", api.writer));
  await nextOf(stream, "evaluation_status_changed");
  await api.db.deleteFrom("organization_member").where("user_id", "=", api.writer.id).execute();
  const id = await insertEvaluationRow(api.db, { organizationId, projectId, status: 0 });
  api.notifier.notify("evaluation", id);
  for (;;) {
    const { done, value } = await stream.next();
    if (done) break;
    expect(value.data.evaluation_id).not.toBe(id);
  }
});
