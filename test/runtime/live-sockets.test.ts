import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import type { HttpBindings } from "@hono/node-server";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { createApp } from "#handlers/app.ts";
import { attachProtoEndpoint } from "#runtime/node/hub/websocket.ts";
import { LiveSockets } from "#runtime/node/live-sockets.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { quietLogger } from "../support/quiet-logger.ts";
import { insertBuild, insertEvaluationRow, insertProjectRow, linkBuild, newId } from "../support/rows.ts";

let api: BuildsApi;
let projectId: string;
let server: Server;
let live: LiveSockets;
let address: string;
beforeAll(async () => {
  api = await withBuildsApi();
  projectId = await insertProjectRow(api.db, { organizationId: api.organizationId });
  const app = createApp(api.deps);
  const fetch = async (request: Request, env: HttpBindings) => await app.fetch(request, env);
  server = createServer();
  live = new LiveSockets(fetch, quietLogger);
  attachProtoEndpoint(server, {
    refuse: () => ({ status: 404, headers: {} }),
    accept: () => {},
    elsewhere: (request, socket, head) => live.take(request, socket, head),
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.close();
  await api[Symbol.asyncDispose]();
});

async function evaluation(status = 3): Promise<string> {
  return await insertEvaluationRow(api.db, { organizationId: api.organizationId, projectId, status });
}

interface Reader {
  readonly socket: WebSocket;
  next(): Promise<unknown>;
  /** The close code. */
  readonly closed: Promise<number>;
}

function open(path: string, headers: Record<string, string> = { authorization: `Bearer ${api.viewer.token}` }): Reader {
  const socket = new WebSocket(`ws://${address}/api/v1${path}`, { headers });
  const frames: unknown[] = [];
  let wake = () => {};
  socket.on("message", (data) => {
    frames.push(JSON.parse(String(data)));
    wake();
  });
  const closed = new Promise<number>((resolve, reject) => {
    socket.on("close", (code) => resolve(code));
    socket.on("error", reject);
  });
  closed.catch(() => {});
  const next = async () => {
    while (frames.length === 0) {
      await Promise.race([new Promise<void>((resolve) => (wake = resolve)), closed]);
      if (frames.length === 0 && socket.readyState !== WebSocket.OPEN) throw new Error("no more frames");
    }
    return frames.shift();
  };
  return { socket, next, closed };
}

/** What the server answers to an upgrade, as it comes. */
async function rawUpgrade(
  path: string,
  headers: readonly string[],
  { version = 13, method = "GET" } = {},
): Promise<string> {
  const { hostname, port } = new URL(`http://${address}`);
  const socket: Socket = connect(Number(port), hostname);
  const lines = [
    `${method} /api/v1${path} HTTP/1.1`,
    `Host: ${address}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    `Sec-WebSocket-Version: ${version}`,
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ...headers,
  ];
  socket.write(`${lines.join("\r\n")}\r\n\r\n`);
  return await text(socket);
}

async function setEvaluation(id: string, status: number): Promise<void> {
  await api.db.updateTable("evaluation").set({ status, updated_at: new Date() }).where("id", "=", id).execute();
  api.notifier.notify("evaluation", id);
}

test("a WebSocket for live updates is sent the frames of the event stream, and ends with the evaluation", async () => {
  const id = await evaluation();
  const build = await insertBuild(api.db, { organizationId: api.organizationId, name: "tool", status: 1 });
  const link = await linkBuild(api.db, id, build);
  const readers = [open(`/evals/${id}/live`), open(`/builds/${link}/live`)];
  for (const { next, closed } of readers) {
    expect(await next()).toEqual({
      type: "evaluation_status_changed",
      project: projectId,
      evaluation_id: id,
      status: 3,
    });
    expect(await next()).toEqual({ type: "build_status_changed", evaluation_id: id, build_id: link, status: 1 });
    void closed;
  }
  await setEvaluation(id, 5);
  for (const { next, closed } of readers) {
    expect(await next()).toMatchObject({ type: "evaluation_progress" });
    expect(await next()).toMatchObject({ type: "evaluation_status_changed", status: 5 });
    expect(await closed).toBe(1000);
  }
});

test("a project's WebSocket tells of new evaluations and their builds, and goes on", async () => {
  const reader = open("/projects/acme/site/live");
  await reader.next();
  const id = await evaluation(0);
  api.notifier.notify("evaluation", id);
  const untilOf = async (type: string) => {
    for (;;) {
      const frame = (await reader.next()) as Record<string, unknown>;
      if (frame.evaluation_id === id && frame.type === type) return frame;
    }
  };
  expect(await untilOf("evaluation_status_changed")).toMatchObject({ project: projectId, status: 0 });
  const build = await insertBuild(api.db, { organizationId: api.organizationId, name: "tool", status: 2 });
  const link = await linkBuild(api.db, id, build);
  await setEvaluation(id, 3);
  expect(await untilOf("build_status_changed")).toMatchObject({ build_id: link, status: 2 });
  expect(await untilOf("evaluation_status_changed")).toMatchObject({ status: 3 });
  reader.socket.close();
});

test("whom an evaluation is not shown gets no WebSocket either, and the same answer as for none", async () => {
  const id = await evaluation();
  const hidden = await rawUpgrade(`/evals/${id}/live`, [`Authorization: Bearer ${api.stranger.token}`]);
  const missing = await rawUpgrade(`/evals/${newId()}/live`, [`Authorization: Bearer ${api.stranger.token}`]);
  expect(hidden).toMatch(/^HTTP\/1\.1 404 /);
  expect(hidden).toContain('"code":"not_found"');
  const withoutId = (answer: string) => answer.replace(/x-request-id: \S+/i, "");
  expect(withoutId(hidden)).toBe(withoutId(missing));
  expect(await rawUpgrade("/evals/nonsense/live", [])).toMatch(/^HTTP\/1\.1 400 /);
  expect(await rawUpgrade(`/evals/${id}`, [])).toMatch(/^HTTP\/1\.1 404 /);
});

test("a browser's cookie opens a WebSocket for pages of this origin alone", async () => {
  const id = await evaluation();
  const cookie = `Cookie: jwt_token=${api.viewer.token}`;
  const foreign = await rawUpgrade(`/evals/${id}/live`, [cookie, "Origin: https://evil.example.com"]);
  expect(foreign).toMatch(/^HTTP\/1\.1 403 /);
  const cookies = { cookie: `jwt_token=${api.viewer.token}` };
  for (const headers of [{ ...cookies, origin: "https://ci.example.com" }, cookies]) {
    const reader = open(`/evals/${id}/live`, headers);
    expect(await reader.next()).toMatchObject({ status: 3 });
    reader.socket.close();
  }
});

test("a reader that hangs up leaves nothing behind", async () => {
  const id = await evaluation();
  // Those of the tests before are gone.
  await expect.poll(() => api.listeners("evaluation"), { timeout: 30_000 }).toBe(0);
  const reader = open(`/evals/${id}/live`);
  await reader.next();
  expect(api.listeners("evaluation")).toBe(1);
  reader.socket.terminate();
  await expect.poll(() => api.listeners("evaluation"), { timeout: 30_000 }).toBe(0);
});

test("upgrades that turn out not to be WebSockets take no reader's place", async () => {
  const id = await evaluation();
  const headers = [`Authorization: Bearer ${api.viewer.token}`];
  for (let round = 0; round < 6; round++) {
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => rawUpgrade(`/evals/${id}/live`, headers, { version: 99 })),
    );
    expect(answers.every((answer) => answer.startsWith("HTTP/1.1 400 "))).toBe(true);
  }
  const reader = open(`/evals/${id}/live`);
  expect(await reader.next()).toMatchObject({ status: 3 });
  reader.socket.close();
});

test("an upgrade by another method than GET is refused, also by one that no request can have", async () => {
  for (const method of ["TRACE", "POST"]) {
    expect(await rawUpgrade(`/evals/${newId()}/live`, [], { method })).toMatch(/^HTTP\/1\.1 405 .*allow: GET/is);
  }
});

test("a request that does not become a WebSocket is told to upgrade", async () => {
  const id = await evaluation();
  const answer = await api.fetch("GET", `/evals/${id}/live`, api.viewer, { headers: { upgrade: "websocket" } });
  expect(answer.status).toBe(426);
});

// The last one: no WebSocket is opened afterwards.
test("a server that stops tells its readers to go elsewhere", async () => {
  const id = await evaluation();
  const reader = open(`/evals/${id}/live`);
  await reader.next();
  live.close();
  expect(await reader.closed).toBe(1001);
  const refused = await rawUpgrade(`/evals/${id}/live`, [`Authorization: Bearer ${api.viewer.token}`]);
  expect(refused).toMatch(/^HTTP\/1\.1 503 /);
});
