import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Kysely, sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadInstanceFigures } from "#core/db/instance-figures.ts";
import type { Database } from "#core/db/schema.ts";
import { tidyMetricCounts } from "#core/services/instance-metrics.ts";
import { readConfig } from "#runtime/node/config.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { type RunningServer, startServer } from "#runtime/node/server.ts";
import { type TestDatabase, withDatabase } from "#test/support/database.ts";
import {
  insertBuild,
  insertCacheOf,
  insertEvaluationRow,
  insertOrganization,
  insertProjectRow,
} from "#test/support/rows.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";

const TOKEN = "c2NyYXBlIG1l";
const HASH = "0c5b8vw40dy178xlpddw65q9gf1h2186";

let folder: TemporaryFolder;
let database: TestDatabase;
let db: Kysely<Database>;
let server: RunningServer;
let organizationId: string;
let projectId: string;
beforeAll(async () => {
  folder = await withTemporaryFolder();
  database = await withDatabase();
  db = database.db;
  await writeFile(join(folder.path, "token"), `${TOKEN}\n`);
  organizationId = await insertOrganization(db, { name: "acme" });
  projectId = await insertProjectRow(db, { organizationId });
  server = await start({ GRADIENT_METRICS_TOKEN_FILE: join(folder.path, "token") });
});
afterAll(async () => {
  await server.close();
  await database[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

async function start(options: Record<string, string>): Promise<RunningServer> {
  const given = { GRADIENT_BASE_PATH: join(folder.path, "base"), GRADIENT_PORT: "0", ...options };
  const { config } = readConfig(given);
  const secret = new TextEncoder().encode("s".repeat(48));
  const settings = {
    ...config,
    database: { ...config.database, url: database.url },
    secrets: { jwt: secret, crypt: secret },
  };
  return await startServer(settings, createLoggers(config.logLevels, { write: () => {} }));
}

let clients = 0;
/** Each time as another client of a proxy, whose limits are its own. */
function scrape(headers: Record<string, string> = { authorization: `Bearer ${TOKEN}` }, client?: string) {
  const forwarded = client ?? `203.0.113.${++clients}`;
  return fetch(`${server.url}/metrics`, { headers: { ...headers, "x-forwarded-for": forwarded } });
}

async function series(): Promise<Map<string, number>> {
  const text = await (await scrape()).text();
  const samples = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    samples.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

test("GRADIENT_METRICS_TOKEN_FILE: metrics are read with the token in it, and by nobody without", async () => {
  for (const authorization of ["", "Bearer wrong", `Basic ${TOKEN}`, `Bearer ${TOKEN}x`]) {
    const refused = await scrape(authorization === "" ? {} : { authorization });
    expect([authorization, refused.status]).toEqual([authorization, 401]);
    expect(refused.headers.get("www-authenticate")).toBe("Bearer");
    expect(await refused.text()).not.toContain("gradient_");
  }
  const told = await scrape();
  expect(told.status).toBe(200);
  expect(told.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(told.headers.get("cache-control")).toBe("no-store");
  expect((await fetch(`${server.url}/metrics`, { method: "POST" })).headers.get("allow")).toBe("GET, HEAD");
});

test("a scraper that comes too often is told to come later, with a token and without", async () => {
  for (const headers of [{ authorization: `Bearer ${TOKEN}` }, {}]) {
    const client = `198.51.100.${++clients}`;
    const answers = await Promise.all(Array.from({ length: 30 }, () => scrape(headers, client)));
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(0);
    expect(refused[0]?.headers.get("retry-after")).toBe("1");
  }
});

test("every series that is promised is there, at nought where nothing has happened", async () => {
  await fetch(`${server.url}/api/v1/health`);
  await fetch(`${server.url}/cache/none/${HASH}.narinfo`);
  const names = [...(await series()).keys()].join("\n");
  const states = (name: string, list: string) =>
    list.split(" ").map((status) => `gradient_${name}{status="${status}"}`);
  for (const name of [
    'gradient_info{version="',
    "gradient_uptime_seconds",
    ...states("builds_total", "Completed Substituted FailedPermanent FailedTimeout DependencyFailed Aborted"),
    ...states("builds_in_state", "Created Queued Building FailedTransient"),
    ...states("evaluations_total", "Completed Failed Aborted"),
    ...states("evaluations_in_state", "Queued Fetching EvaluatingFlake EvaluatingDerivation Building Waiting"),
    "gradient_workers_connected",
    "gradient_jobs_pending",
    "gradient_jobs_active",
    "gradient_cache_bytes",
    "gradient_cache_nar_bytes",
    "gradient_cache_packages",
    "gradient_cache_nar_bytes_sent_total",
    "gradient_cache_nar_requests_total",
    'gradient_http_request_duration_seconds_bucket{le="0.005",method="GET",route="/api/v1/health"}',
    'gradient_http_requests_total{method="GET",route="/api/v1/health",status="200"}',
    'gradient_http_requests_total{method="GET",route="/cache/:cache/:hash.narinfo",status="401"}',
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_cpu_seconds_total",
    "process_threads",
  ]) {
    expect(names).toContain(name);
  }
});

test("totals count what has ended, and never shrink: not by retention, and not by a restart", async () => {
  const ids = await Promise.all([3, 3, 4].map((status) => endedBuild(status)));
  await db
    .updateTable("build")
    .set({ status: 4, updated_at: sql<Date>`gradient_now()` })
    .where("id", "=", ids[0] as string)
    .execute();
  const evaluation = await insertEvaluationRow(db, { organizationId, projectId, status: 3 });
  await db.updateTable("evaluation").set({ status: 6 }).where("id", "=", evaluation).execute();
  const totals = async () => {
    const all = await series();
    return [
      all.get('gradient_builds_total{status="Completed"}'),
      all.get('gradient_builds_total{status="FailedPermanent"}'),
      all.get('gradient_evaluations_total{status="Failed"}'),
    ];
  };
  const before = await totals();
  expect(before).toEqual([2, 2, 1]);

  await db.deleteFrom("build").where("id", "in", ids).execute();
  await db.deleteFrom("evaluation").where("id", "=", evaluation).execute();
  await tidyMetricCounts({ db }, new AbortController().signal);
  expect(await totals()).toEqual(before);
  expect((await db.selectFrom("metric_count").select("name").execute()).length).toBeLessThan(10);

  await server.close();
  server = await start({ GRADIENT_METRICS_TOKEN_FILE: join(folder.path, "token") });
  expect(await totals()).toEqual(before);
});

async function endedBuild(status: number): Promise<string> {
  const id = await insertBuild(db, { organizationId, name: `b-${crypto.randomUUID()}`, status: 2 });
  await db.updateTable("build").set({ status }).where("id", "=", id).execute();
  return id;
}

test("what is under way and what is stored is told as it is now", async () => {
  await insertBuild(db, { organizationId, name: "waits", status: 0 });
  await insertBuild(db, { organizationId, name: "ready", status: 1 });
  await insertEvaluationRow(db, { organizationId, projectId, status: 0 });
  const cacheId = await insertCacheOf(db, organizationId);
  await sql`
    with n as (
      insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key)
      values (sha256('n'), 1000, sha256('f'), 300, 'zstd', 'nar/x/y') returning nar_hash
    )
    insert into cache_path (cache_id, hash, store_path, nar_hash)
    select ${cacheId}, ${HASH}, ${`${HASH}-x`}, nar_hash from n`.execute(db);

  const all = await series();

  expect(all.get('gradient_builds_in_state{status="Created"}')).toBe(1);
  expect(all.get('gradient_builds_in_state{status="Queued"}')).toBe(1);
  expect(all.get('gradient_evaluations_in_state{status="Queued"}')).toBe(1);
  expect(all.get("gradient_jobs_pending")).toBe(2);
  expect(all.get("gradient_cache_bytes")).toBe(300);
  expect(all.get("gradient_cache_nar_bytes")).toBe(1000);
  expect(all.get("gradient_cache_packages")).toBe(1);
});

test("no figure of what is under way needs a walk over all builds, evaluations or attempts", async () => {
  const plans: string[] = [];
  await db.transaction().execute(async (trx) => {
    // On tables of a few rows the planner would read them whole.
    await sql`set local enable_seqscan = off`.execute(trx);
    for (const where of [
      "build where status = 0",
      "build where status = 1",
      "build where status = 8",
      "attempt where finished_at is null and build_id is not null",
      "attempt where finished_at is null",
      "evaluation where status in (0, 1, 2, 3, 4, 8)",
    ]) {
      const { rows } = await sql<Record<string, string>>`explain select count(*) from ${sql.raw(where)}`.execute(trx);
      plans.push(rows.flatMap((row) => Object.values(row)).join("\n"));
    }
  });
  for (const plan of plans) expect(plan).not.toContain("Seq Scan");
  await expect(loadInstanceFigures(db)).resolves.toMatchObject({ workersConnected: 0 });
});

test("without a token file there is no such address", async () => {
  await server.close();
  server = await start({});

  const answer = await scrape();

  expect([answer.status, await answer.json()]).toEqual([404, { error: true, code: "not_found", message: "Not Found" }]);
});
