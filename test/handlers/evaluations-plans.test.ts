import { Kysely, type LogEvent, PostgresDialect, sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Database } from "#core/db/schema.ts";
import { listOpenVerdicts, openVerdicts } from "#core/db/verdicts.ts";
import { createApp } from "#handlers/app.ts";
import { openPool } from "#runtime/node/pool.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { postgresAddress } from "../support/database.ts";

// Enough rows for PostgreSQL to find an index worth it: what is read whole shows in the plan.
const PROJECTS = 100;
const EVALUATIONS = 4_000;
const BUILDS = 8_000;
const BUILDS_EACH = 6;
/** Tables that grow with the number of evaluations. */
const LARGE = new Set([
  "evaluation",
  "evaluation_build",
  "evaluation_message",
  "evaluation_verdict",
  "entry_point",
  "build",
  "build_edge",
  "build_output",
  "attempt",
  "cache_path",
  "nar",
]);

let api: BuildsApi;
let db: Kysely<Database>;
let queries: { readonly text: string; readonly parameters: readonly unknown[] }[] = [];
beforeAll(async () => {
  api = await withBuildsApi();
  await fill();
  const { rows } = await sql<{ name: string }>`select current_database() as name`.execute(api.db);
  const address = { ...(await postgresAddress()), database: rows[0]?.name ?? "" };
  const pool = openPool(address, { name: "plans", connectionsMax: 2 });
  const log = (event: LogEvent) => void queries.push({ text: event.query.sql, parameters: event.query.parameters });
  db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }), log });
});
afterAll(async () => {
  await db.destroy();
  await api[Symbol.asyncDispose]();
});

/** The id that belongs to a number: `prefix` tells kinds of rows apart. */
const idOf = (prefix: number, n: string) =>
  sql.raw(`('00000000-0000-7000-800${prefix}-' || lpad(to_hex(${n}), 12, '0'))::uuid`);
const uuid = (prefix: number, n: number) => `00000000-0000-7000-800${prefix}-${n.toString(16).padStart(12, "0")}`;

/** Evaluation `n` is of project `n % PROJECTS` and has the builds from `n % BUILDS` on; each needs the next one. */
async function fill(): Promise<void> {
  const { organizationId } = api;
  await api.db.connection().execute(async (connection) => {
    await sql`set session_replication_role = replica`.execute(connection);
    await sql`
      insert into project (id, organization_id, name, display_name, description, repository, wildcard)
      select ${idOf(1, "n")}, ${organizationId}, 'project-' || n, 'P', '', 'https://example.com/p.git', '*'
      from generate_series(0, ${PROJECTS - 1}) n`.execute(connection);
    await sql`
      insert into evaluation (id, organization_id, project_id, repository, commit_hash, wildcard, status, finished_at)
      select ${idOf(2, "n")}, ${organizationId}, ${idOf(1, `n % ${PROJECTS}`)}, 'https://example.com/p.git',
        lpad(to_hex(n), 40, '0'), '*', 5 + n % 2, now() - interval '1 day'
      from generate_series(0, ${EVALUATIONS - 1}) n`.execute(connection);
    await sql`
      insert into evaluation_verdict (evaluation_id, record)
      select id, case when ordinal % 100 > 0 then '{}'::jsonb end from evaluation`.execute(connection);
    await sql`
      insert into build (id, organization_id, drv_path, name, system, status)
      select ${idOf(3, "n")}, ${organizationId}, lpad(n::text, 32, '0') || '-b-1.drv', 'b-1', 'x86_64-linux',
        case when n % 7 = 0 then 4 else 3 end
      from generate_series(0, ${BUILDS - 1}) n`.execute(connection);
    await sql`
      insert into build_output (build_id, name, store_path)
      select ${idOf(3, "n")}, 'out', lpad(n::text, 32, '0') || '-b-1' from generate_series(0, ${BUILDS - 1}) n`.execute(
      connection,
    );
    await sql`
      insert into build_edge (build_id, dependency_id, outputs)
      select ${idOf(3, "n")}, ${idOf(3, "n + 1")}, '{out}'
      from generate_series(0, ${BUILDS - 2}) n where n % 20 <> 19`.execute(connection);
    await sql`
      insert into attempt (id, kind, organization_id, build_id, worker_id, lease_expires_at, outcome, finished_at)
      select ${idOf(4, "n")}, 1, ${organizationId}, ${idOf(3, "n")}, ${idOf(5, "1")}, now(), 1, now()
      from generate_series(0, ${BUILDS - 1}) n`.execute(connection);
    await sql`
      insert into evaluation_build (id, evaluation_id, build_id, outcome, attempt_id)
      select ${idOf(6, `n * ${BUILDS_EACH} + k`)}, ${idOf(2, "n")}, ${idOf(3, `(n + k) % ${BUILDS}`)},
        case when (n + k) % 7 = 0 then 4 else 3 end, ${idOf(4, `(n + k) % ${BUILDS}`)}
      from generate_series(0, ${EVALUATIONS - 1}) n, generate_series(0, ${BUILDS_EACH - 1}) k`.execute(connection);
    await sql`
      insert into entry_point (id, evaluation_id, attribute, build_id)
      select ${idOf(7, "n")}, ${idOf(2, "n")}, '{packages,b}', ${idOf(3, `n % ${BUILDS}`)}
      from generate_series(0, ${EVALUATIONS - 1}) n`.execute(connection);
    await sql`
      insert into evaluation_message (id, evaluation_id, level, message, source, attribute)
      select ${idOf(8, "n")}, ${idOf(2, "n")}, n % 3, 'message', 'evaluation', '{packages,c}'
      from generate_series(0, ${EVALUATIONS - 1}) n`.execute(connection);
    await sql`
      insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key)
      select decode(lpad(to_hex(n), 64, '0'), 'hex'), 100, decode(lpad(to_hex(n), 64, '0'), 'hex'), 50, 'zstd', n::text
      from generate_series(0, ${BUILDS - 1}) n`.execute(connection);
    await sql`
      insert into cache (id, kind, name, display_name, description)
      values (${uuid(9, 1)}, 0, 'main', 'Main', '')`.execute(connection);
    await sql`
      insert into organization_cache (id, organization_id, cache_id)
      values (${uuid(9, 2)}, ${organizationId}, ${uuid(9, 1)})`.execute(connection);
    await sql`
      insert into cache_path (cache_id, hash, store_path, nar_hash, "references")
      select ${uuid(9, 1)}, lpad(n::text, 32, '0'), lpad(n::text, 32, '0') || '-b-1',
        decode(lpad(to_hex(n), 64, '0'), 'hex'), array[lpad(((n + 1) % 100)::text, 32, '0') || '-b-1']
      from generate_series(0, ${BUILDS - 1}) n`.execute(connection);
    await sql`set session_replication_role = origin`.execute(connection);
  });
  await sql`analyze`.execute(api.db);
}

interface Plan {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly Plans?: readonly Plan[];
}

function wholeTables(plan: Plan): string[] {
  const own = plan["Node Type"].endsWith("Seq Scan") ? [plan["Relation Name"] ?? ""] : [];
  return [...own.filter((name) => LARGE.has(name)), ...(plan.Plans ?? []).flatMap(wholeTables)];
}

/** Everything that was asked of the database since the last time, explained. */
async function expectIndexes(what: string): Promise<void> {
  const asked = queries.filter(({ text }) => /^\s*(?:select|with|insert|update|\()/i.test(text));
  expect(asked.length, what).toBeGreaterThan(0);
  for (const { text, parameters } of asked) {
    const { rows } = await api.db.executeQuery<{ "QUERY PLAN": readonly { readonly Plan: Plan }[] }>({
      ...sql`select 1`.compile(api.db),
      sql: `explain (format json) ${text}`,
      parameters,
    });
    const whole = rows.flatMap((row) => row["QUERY PLAN"].flatMap(({ Plan }) => wholeTables(Plan)));
    expect(whole, `${what} reads a table whole: ${text}`).toEqual([]);
  }
  queries = [];
}

test("no list and no picture of evaluations and builds reads a large table whole", async () => {
  const app = createApp({ ...api.deps, db });
  const [one, other] = [uuid(2, 2_000), uuid(2, 2_000 + PROJECTS)];
  const link = uuid(6, 2_000 * BUILDS_EACH);
  const project = `/projects/acme/project-${2_000 % PROJECTS}`;
  const paths = [
    ...["", "/builds?limit=5&offset=2", `/builds?scope=${link}`, "/messages", "/artefacts"].map((end) => one + end),
    ...["/closure", "/runtime-closure", "/flake-graph", "/verdict", `/compare/${other}`].map((end) => one + end),
  ].map((path) => `/evals/${path}`);
  const ofBuild = ["", "/dependencies", "/graph", "/closure", "/runtime-closure", "/downloads"];
  const ofProject = ["", "/evaluations?limit=5", "/details", "/entry-points"];
  paths.push(...ofBuild.map((end) => `/builds/${link}${end}`), ...ofProject.map((end) => project + end));
  paths.push("/projects/acme?per_page=20");
  for (const path of paths) {
    const headers = { authorization: `Bearer ${api.admin.token}` };
    const response = await app.request(`http://127.0.0.1/api/v1${path}`, { headers });
    expect([response.status, path]).toEqual([200, path]);
    await response.text();
    await expectIndexes(path);
  }
});

test("what live updates and the end of an evaluation ask is found by indexes, too", async () => {
  const app = createApp({ ...api.deps, db });
  await sql`update evaluation set status = 3 where id = ${uuid(2, 7)}`.execute(api.db);
  for (const path of [`/evals/${uuid(2, 7)}/live`, "/projects/acme/project-7/live"]) {
    const headers = { authorization: `Bearer ${api.admin.token}` };
    const response = await app.request(`http://127.0.0.1/api/v1${path}`, { headers });
    const reader = response.body?.getReader();
    for (let reads = 0; reads < 3; reads++) await reader?.read();
    await reader?.cancel();
    await expectIndexes(path);
  }
  await db.transaction().execute((trx) => openVerdicts(trx, [uuid(2, 7), uuid(2, 8)]));
  await listOpenVerdicts(db, { settleMs: 10_000, limit: 10 });
  await expectIndexes("the end of an evaluation");
});
