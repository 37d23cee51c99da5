import { Kysely, type LogEvent, PostgresDialect, sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Database } from "#core/db/schema.ts";
import { createApp } from "#handlers/app.ts";
import { openPool } from "#runtime/node/pool.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { postgresAddress } from "../support/database.ts";
import { type Built, buildHosts, deploy, type Fleet, insertFleet, report } from "../support/hosts.ts";
import { insertOrganization, newId } from "../support/rows.ts";

const PROJECTS = 25;
const HOSTS_EACH = 100;
/** Tables that grow with the number of hosts, projects or evaluations. */
const LARGE = new Set(
  "host host_path deployment deployment_hold evaluation evaluation_build entry_point build build_output".split(" "),
);

let api: BuildsApi;
let db: Kysely<Database>;
let fleet: Fleet;
let built: Built;
let queries: { readonly text: string; readonly parameters: readonly unknown[] }[] = [];
beforeAll(async () => {
  api = await withBuildsApi();
  fleet = await insertFleet(api, { deploy_wave_percent: 50 });
  built = await buildHosts(api, fleet, { hosts: ["web", "db"] });
  for (const host of ["web", "db"]) await deploy(api, fleet, { host, built, end: "succeeded" });
  await fill();
  const { rows } = await sql<{ name: string }>`select current_database() as name`.execute(api.db);
  const pool = openPool(
    { ...(await postgresAddress()), database: rows[0]?.name ?? "" },
    { name: "plans", connectionsMax: 2 },
  );
  const log = (event: LogEvent) => void queries.push({ text: event.query.sql, parameters: event.query.parameters });
  db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }), log });
});
afterAll(async () => {
  await db.destroy();
  await api[Symbol.asyncDispose]();
});

/** Others' projects, each with hosts, a system of each, runs, paths and holds. */
async function fill(): Promise<void> {
  const organizationId = await insertOrganization(api.db, { name: "others" });
  await sql`
    insert into project (id, organization_id, name, display_name, description, repository, wildcard, default_branch)
    select gen_random_uuid(), ${organizationId}, 'other-' || n, 'O', '', 'https://example.com/o.git', '*', 'main'
    from generate_series(1, ${PROJECTS}) n`.execute(api.db);
  await sql`
    insert into evaluation (id, organization_id, project_id, repository, commit_hash, wildcard, status, branch, deploys,
      building_started_at)
    select gen_random_uuid(), ${organizationId}, p.id, '', lpad(to_hex(n), 40, '0'), '*', 5, 'main', true, now()
    from project p, generate_series(1, 5) n where p.name like 'other-%'`.execute(api.db);
  await sql`
    insert into build (id, organization_id, drv_path, name, system, status)
    select gen_random_uuid(), ${organizationId}, lpad(n::text, 32, '0') || '-s.drv', 's', 'x86_64-linux', 3
    from generate_series(1, ${PROJECTS * HOSTS_EACH}) n`.execute(api.db);
  await sql`
    insert into build_output (build_id, name, store_path, available)
    select id, 'out', left(drv_path, 32) || '-nixos-system', true from build where name = 's'`.execute(api.db);
  await sql`
    create temporary table other as
    select e.id as evaluation_id, e.project_id, b.id as build_id, 'h' || b.n % ${HOSTS_EACH} as host
    from (select *, row_number() over (order by id) as n from evaluation where branch = 'main') e
    join (select *, row_number() over (order by drv_path) as n from build where name = 's') b
      on b.n / ${HOSTS_EACH} = e.n / 5`.execute(api.db);
  await sql`
    insert into evaluation_build (id, evaluation_id, build_id, outcome)
    select gen_random_uuid(), evaluation_id, build_id, 3 from other`.execute(api.db);
  await sql`
    insert into entry_point (id, evaluation_id, build_id, attribute)
    select gen_random_uuid(), evaluation_id, build_id, array['nixosConfigurations', host] from other
    on conflict do nothing`.execute(api.db);
  await sql`
    insert into host (id, project_id, name, kept_until)
    select gen_random_uuid(), p.id, 'h' || n, now() + interval '1 day'
    from project p, generate_series(1, ${HOSTS_EACH}) n where p.name like 'other-%'`.execute(api.db);
  await sql`
    insert into host_path (host_id, role, store_path)
    select h.id, r, md5(h.id::text) || '-s' from host h, generate_series(0, 3) r on conflict do nothing`.execute(
    api.db,
  );
  await sql`
    insert into deployment (id, host_id, run_id, mode, step, sequence, health, agent_version, steps)
    select gen_random_uuid(), h.id, gen_random_uuid(), 0, 4, 1, 1, '', '[]'
    from host h, generate_series(1, 5) where h.name <> 'web'`.execute(api.db);
  await sql`
    insert into deployment_hold (id, project_id, failed_host, store_path, commit_hash)
    select gen_random_uuid(), project_id, name, 'x', 'c' from host`.execute(api.db);
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

async function expectIndexes(what: string): Promise<void> {
  const asked = queries.filter(({ text }) => /^\s*(?:select|with|insert|update|delete|\()/i.test(text));
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

test("what hosts ask and tell, and what people look at, is found by indexes", async () => {
  const app = createApp({ ...api.deps, db });
  const ask = async (method: string, path: string, body?: object) => {
    const headers = { authorization: `Bearer ${api.admin.token}`, "content-type": "application/json" };
    const init = { method, headers, ...(body && { body: JSON.stringify(body) }) };
    const response = await app.request(`http://127.0.0.1/api/v1${path}`, init);
    expect([response.status, path]).toEqual([200, path]);
    await response.text();
    await expectIndexes(`${method} ${path}`);
  };
  const host = `${fleet.path}/hosts/web`;
  await ask("GET", `${host}/wanted`);
  await ask("GET", host);
  await ask("GET", `${host}/history`);
  await ask("GET", `${fleet.path}/hosts?per_page=10`);
  await ask("GET", "/orgs/acme/hosts?per_page=10");
  await ask("GET", `${fleet.path}/deployments`);
  const run = { run_id: newId(), store_path: built.paths.web, running_path: built.paths.web };
  const build_id = built.links.web;
  await ask("POST", `${host}/reports`, report({ ...run, build_id, sequence: 0, step: "activating" }));
  await ask("POST", `${host}/reports`, report({ ...run, sequence: 1, step: "rolled_back" }));
  await ask("POST", `${host}/reports`, report({ step: "unchanged", running_path: built.paths.web }));
  await ask("POST", `${host}/release`);
  await ask("POST", `${fleet.path}/deployments/${built.links.web}/hold`, {});
  await ask("POST", `${fleet.path}/deployments/${built.links.web}/release`);
  await ask("DELETE", host);
});
