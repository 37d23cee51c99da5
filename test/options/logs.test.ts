import { afterAll, beforeAll, expect, test } from "vitest";
import { BuildStatus } from "#core/domain/states.ts";
import { utf8 } from "#core/lib/bytes.ts";
import { readConfig } from "#runtime/node/config.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import {
  insertAttempt,
  insertBuild,
  insertEvaluationRow,
  insertOrganization,
  insertProjectRow,
  linkBuild,
  newId,
  writeLogRows,
} from "#test/support/rows.ts";
import {
  addOrganization,
  type Options,
  type Place,
  type StartedServer,
  WAIT,
  withPlace,
  withWorker,
} from "./support.ts";

let place: Place;
beforeAll(async () => {
  place = await withPlace();
  await using server = await place.start();
  const api = server.api();
  await api.signUp("ada");
  await addOrganization(api, "acme");
});
afterAll(() => place[Symbol.asyncDispose]());

/** Which parts of a server say what while a worker comes, a request is answered and a sweep finds something. */
async function said(options: Options): Promise<string[]> {
  await place.db.deleteFrom("retention_sweep").execute();
  // A NAR that nobody came to name: the sweep at the start finds it.
  const claimed_at = new Date(0);
  const hash = new Uint8Array(32).fill(1);
  const file = { nar_hash: hash, nar_size: 1, file_hash: hash, file_size: 1, compression: "zstd" };
  await place.db
    .insertInto("nar")
    .values({ ...file, object_key: `nar/${newId()}`, claimed_at })
    .execute();
  await using server = await place.start(options);
  const api = server.api();
  api.token = await api.request("POST", "/auth/basic/login", { loginname: "ada", password: "Corr3ct-Horse!" });
  await withWorker(server, api, "acme");
  await expect.poll(() => place.db.selectFrom("nar").select("nar_size").execute(), WAIT).toEqual([]);
  await expect.poll(() => sweepsEnded(), WAIT).toBeGreaterThan(0);
  return [...new Set(linesOf(server).filter((line) => !line.startsWith("main ")))].sort();
}

async function sweepsEnded(): Promise<number> {
  const sweeps = await place.db
    .selectFrom("retention_sweep")
    .select("id")
    .where("finished_at", "is not", null)
    .execute();
  return sweeps.length;
}

function linesOf({ logged }: StartedServer): string[] {
  const wanted = ["request answered", "worker connected", "what nothing keeps any more was deleted"];
  return logged.flatMap(({ part, message }) => (wanted.includes(String(message)) ? [`${part} ${message}`] : []));
}

const WEB = "web request answered";
const PROTO = "proto worker connected";
const CACHE = "cache what nothing keeps any more was deleted";

test("logLevel.default (GRADIENT_LOG_LEVEL): info where nothing is said, more or less where it is", async () => {
  expect(await said({})).toEqual([CACHE, PROTO]);
  expect(await said({ GRADIENT_LOG_LEVEL: "debug" })).toEqual([CACHE, PROTO, WEB]);
});

test("logLevel.web, .cache, .proto (GRADIENT_WEB_LOG_LEVEL ...): a part says more than the others", async () => {
  const error = { GRADIENT_LOG_LEVEL: "error" };
  expect(await said({ ...error, GRADIENT_WEB_LOG_LEVEL: "debug", GRADIENT_PROTO_LOG_LEVEL: "info" })).toEqual([
    PROTO,
    WEB,
  ]);
  expect(await said({ ...error, GRADIENT_CACHE_LOG_LEVEL: "info" })).toEqual([CACHE]);
});

test("logLevel.scheduler (GRADIENT_SCHEDULER_LOG_LEVEL): the scheduler has a level of its own", () => {
  const lines: string[] = [];
  const { config } = readConfig({ GRADIENT_LOG_LEVEL: "error", GRADIENT_SCHEDULER_LOG_LEVEL: "warn" });
  const loggers = createLoggers(config.logLevels, { write: (line) => void lines.push(line) });
  for (const part of ["main", "scheduler"] as const)
    for (const level of ["info", "warn"] as const) loggers[part][level]("x");

  expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ part: "scheduler", level: "warn" }]);
});

test("logChunkBytes (GRADIENT_LOG_CHUNK_BYTES): so much of a stored log is compressed together", async () => {
  const organizationId = await insertOrganization(place.db, { name: "logs" });
  const projectId = await insertProjectRow(place.db, { organizationId });
  const evaluation = await insertEvaluationRow(place.db, { organizationId, projectId });
  const buildId = await insertBuild(place.db, { organizationId, name: "tool", status: BuildStatus.Completed });
  await linkBuild(place.db, evaluation, buildId);
  const attempt = await insertAttempt(place.db, { organizationId, buildId });
  await writeLogRows(place.db, attempt, utf8("twelve chars".repeat(1_000)));
  const finished_at = new Date(Date.now() - 3_600_000);
  await place.db.updateTable("attempt").set({ outcome: 1, finished_at }).where("id", "=", attempt).execute();

  await using _server = await place.start({ GRADIENT_LOG_CHUNK_BYTES: "5000" });
  const stored = () =>
    place.db
      .selectFrom("sealed_log")
      .select(["bytes", "frame_bytes", "frames"])
      .where("attempt_id", "=", attempt)
      .execute();
  await expect.poll(stored, WAIT).toHaveLength(1);

  expect(await stored()).toMatchObject([{ bytes: 12_000, frame_bytes: 5_000 }]);
  expect((await stored())[0]?.frames).toHaveLength(3);
});

test("GRADIENT_GRAPH_CONSISTENCY_INTERVAL: what differs from the facts is found and mended", async () => {
  const organizationId = await insertOrganization(place.db, { name: "graph" });
  // It builds, and no worker is at it.
  const build = await insertBuild(place.db, { organizationId, name: "stray", status: BuildStatus.Building });
  const status = async () =>
    (await place.db.selectFrom("build").select("status").where("id", "=", build).executeTakeFirstOrThrow()).status;

  await using server = await place.start({ GRADIENT_GRAPH_CONSISTENCY_INTERVAL: "1" });
  await expect.poll(status, WAIT).not.toBe(BuildStatus.Building);

  const found = () => server.logged.filter(({ part }) => part === "scheduler");
  await expect.poll(found, WAIT).toMatchObject([{ level: "error", lease: 1 }]);
});
