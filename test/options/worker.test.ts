import { randomUUID } from "node:crypto";
import { stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { startService } from "#test/e2e/process.ts";
import { type NixDaemon, nixAvailable, withNixDaemon } from "#test/support/nix.ts";
import { pathWithNix } from "#test/support/nix-path.ts";
import { recordingLogger } from "#test/support/recording-logger.ts";
import { readWorkerConfig } from "#worker/config.ts";
import { DialListener } from "#worker/dial-listener.ts";
import { EvaluatorPool } from "#worker/evaluation/evaluator-pool.ts";
import { createLoggers } from "#worker/logger.ts";
import { parsePeers } from "#worker/peers.ts";
import { readStoreFacts } from "#worker/store-facts.ts";
import { addOrganization, type Place, type StartedServer, withPlace } from "./support.ts";

const nix = nixAvailable();
const SERVER_URL = { GRADIENT_WORKER_SERVER_URL: "ws://127.0.0.1:3000/proto" };

describe.skipIf(!nix.ok)(`a worker${nix.ok ? "" : ` (skipped: ${nix.reason})`}`, () => {
  let place: Place;
  let daemon: NixDaemon;
  let server: StartedServer;
  beforeAll(async () => {
    place = await withPlace();
    daemon = await withNixDaemon();
    server = await place.start();
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    await daemon?.[Symbol.asyncDispose]();
    await place?.[Symbol.asyncDispose]();
  });

  test("serverUrl, workerId, peersFile, capabilities.*, settings.*: it offers what it is given", async () => {
    const api = server.api();
    await api.signUp("ada");
    await addOrganization(api, "acme");
    const worker_id = randomUUID();
    const answer = await api.request<{ token: string }>("POST", "/orgs/acme/workers", { worker_id });
    await writeFile(join(place.folder, "peers"), `*:${answer.token}\n`);
    await using worker = startService("worker/main.ts", {
      NIX_REMOTE: daemon.storeUrl,
      NIX_CONF_DIR: daemon.env.NIX_CONF_DIR ?? "",
      GRADIENT_WORKER_DATA_DIR: join(place.folder, "worker"),
      GRADIENT_WORKER_SERVER_URL: `${server.url.replace(/^http/, "ws")}/proto`,
      GRADIENT_WORKER_ID: worker_id,
      GRADIENT_WORKER_PEERS_FILE: join(place.folder, "peers"),
      GRADIENT_WORKER_GCROOTS_DIR: join(place.folder, "gcroots"),
      GRADIENT_WORKER_ALLOW_LOCAL_SOURCES: "true",
      GRADIENT_WORKER_CAPABILITY_FETCH: "true",
      GRADIENT_WORKER_CAPABILITY_EVAL: "false",
      GRADIENT_WORKER_CAPABILITY_BUILD: "true",
      GRADIENT_WORKER_CAPABILITY_SIGN: "true",
      GRADIENT_MAX_CONCURRENT_BUILDS: "3",
      GRADIENT_MAX_CONCURRENT_EVALUATIONS: "7",
      GRADIENT_LOG_LEVEL: "error",
      GRADIENT_PROTO_LOG_LEVEL: "info",
    });
    await worker.waitFor("connected to the server");

    await place.db.updateTable("user_account").set({ superuser: true }).execute();
    await expect
      .poll(() => api.request("GET", "/admin/workers"), { timeout: 30_000 })
      .toMatchObject([
        {
          worker_id,
          capabilities: { fetch: true, eval: false, build: true, sign: true, federate: false },
          max_concurrent_builds: 3,
        },
      ]);
    const { description } = await place.db
      .selectFrom("worker_connection")
      .select("description")
      .executeTakeFirstOrThrow();
    expect(description).toMatchObject({ max_concurrent_evaluations: 7 });
    expect((await stat(join(place.folder, "gcroots"))).isDirectory()).toBe(true);
  });

  test("GRADIENT_MAX_NIXDAEMON_CONNECTIONS: builds leave room for other work", async () => {
    const slots = async (connections: string) => {
      const { config } = readWorkerConfig({
        ...daemon.env,
        ...SERVER_URL,
        PATH: pathWithNix(),
        GRADIENT_MAX_NIXDAEMON_CONNECTIONS: connections,
      });
      return (await readStoreFacts(config)).maxConcurrentBuilds;
    };

    expect([await slots("4"), await slots("16")]).toEqual([2, 12]);
  });
});

test("discoverable, listenAddr, port, settings.maxProtoConnections: where servers dial the worker", async () => {
  const free = await new Promise<number>((resolve) => {
    const probe = createServer().listen(0, "127.0.0.4", () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
  const { config } = readWorkerConfig({
    GRADIENT_WORKER_DISCOVERABLE: "true",
    GRADIENT_WORKER_LISTEN_ADDR: "127.0.0.4",
    GRADIENT_WORKER_PORT: String(free),
    GRADIENT_MAX_PROTO_CONNECTIONS: "1",
  });
  if (!config.listen) throw new Error("it does not listen");
  const readPeers = async () => parsePeers("", "peers");
  await using _listener = await DialListener.open({
    ...config.listen,
    workerId: randomUUID(),
    readPeers,
    log: recordingLogger(),
  });
  const dial = (): Promise<WebSocket | number> =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(`ws://127.0.0.4:${free}/proto`);
      socket.on("open", () => resolve(socket));
      socket.on("unexpected-response", (_request, { statusCode }) => resolve(statusCode ?? 0));
      socket.on("error", reject);
    });

  const first = await dial();
  expect(first).toBeInstanceOf(WebSocket);
  expect(await dial()).toBe(503);
  (first as WebSocket).terminate();
  expect(readWorkerConfig(SERVER_URL).config.listen).toBeNull();
});

test("settings.evalWorkers (GRADIENT_WORKER_EVAL_WORKERS): so many evaluators are at work at a time", async () => {
  const { config } = readWorkerConfig({ ...SERVER_URL, GRADIENT_WORKER_EVAL_WORKERS: "2" });
  const { evaluatorsMax, evaluationsPerEvaluatorMax: evaluationsPerProcessMax } = config;
  const pool = new EvaluatorPool({ evaluatorsMax, evaluationsPerProcessMax });
  let [now, most] = [0, 0];
  const work = async () => {
    most = Math.max(most, ++now);
    await new Promise((resolve) => setTimeout(resolve, 20));
    now--;
  };

  await Promise.all(Array.from({ length: 5 }, () => pool.withPlace(work)));

  expect(most).toBe(2);
  await pool.close();
});

test("settings.logLevel.* of a worker (GRADIENT_EVAL_LOG_LEVEL and so on): each part has a level of its own", () => {
  const lines: string[] = [];
  const { config } = readWorkerConfig({
    ...SERVER_URL,
    GRADIENT_LOG_LEVEL: "error",
    GRADIENT_EVAL_LOG_LEVEL: "debug",
    GRADIENT_BUILD_LOG_LEVEL: "info",
    GRADIENT_PROTO_LOG_LEVEL: "warn",
  });
  const loggers = createLoggers(config.logLevels, { write: (line) => void lines.push(line) });
  for (const part of ["main", "eval", "build", "proto"] as const) {
    for (const level of ["debug", "info", "warn", "error"] as const) loggers[part][level](level);
  }

  const written = (part: string) =>
    lines
      .map((line) => JSON.parse(line) as Record<string, string>)
      .flatMap((line) => (line.part === part ? [line.level] : []));
  expect(written("main")).toEqual(["error"]);
  expect(written("eval")).toEqual(["debug", "info", "warn", "error"]);
  expect(written("build")).toEqual(["info", "warn", "error"]);
  expect(written("proto")).toEqual(["warn", "error"]);
});
