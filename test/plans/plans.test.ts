import { join } from "node:path";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { ROUTES } from "#core/api/openapi/routes.ts";
import { pruneAuditEvents } from "#core/services/audit.ts";
import { deleteBuriedOrganizations } from "#core/services/organization-deletion.ts";
import { pruneSessions } from "#core/services/transitions/audit.ts";
import { readConfig } from "#runtime/node/config.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { PreparingClient } from "#runtime/node/preparing-client.ts";
import { startServer } from "#runtime/node/server.ts";
import { postgresAddress, urlOf } from "#test/support/database.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import type { ActorName } from "../contract/people.ts";
import { askingOf, exampleOf } from "../contract/requests.ts";
import { makeWorld, type World } from "../contract/world.ts";
import { BOUNDED_TABLES } from "./bounded.ts";
import { fillTables } from "./many-rows.ts";
import { findScans, isExplained, listPartialIndexes, type Statement } from "./scans.ts";

/** Routes of superusers that are about all there is. */
const ROUTES_OF_EVERYTHING: Readonly<Record<string, string>> = {
  "GET /admin/state": "gives all that the instance has been told",
  "GET /admin/integrity": "sums up what is stored, of all caches",
};
/** Work that looks at everything there is, by a part of its statement. */
const WORK_OF_EVERYTHING: Readonly<Record<string, string>> = {
  kysely_migration: "the migrator's own books, at the start",
  "from pg_catalog": "the migrator looks for its tables, at the start",
  "insert into evaluation_verdict": "evaluations of older versions, once after the start",
  "insert into retention_step": "a sweep marks what nothing keeps, whatever it is",
  "partition by e.project_id": "a sweep leaves as many evaluations of each project as it keeps",
  "delete from cache_log": "a sweep looks which logs belong to no path any more",
  "select id from action_delivery d where d.action_id = a.id": "of each action a thousand deliveries are kept",
  "from cache c left join cache_usage": "what each cache holds is noted",
  "as excess from": "records are counted, to keep as many of each user as are allowed",
};
/** By each of these the statements of another loop are known. */
const LOOKED_FOR: readonly string[] = [
  ...["project_trigger", "action_delivery", "action_watch", "mail", "retention_sweep", "retention_step", "scrub_state"],
  ...["upstream_path", "evaluation_verdict", "source_upload", "nar_upload", "nar_damage", "nar_listing", "admin_task"],
  ...["metric_count", "walked_to", "log_sealed", "dial_after", "lease_expires_at", "recovery_need", "output_loss"],
  ...["device_login", "discarded_object", "lost_path"],
];

/** Statements by their text. */
type Asked = Map<string, Statement & { readonly by: string }>;

const byRoutes: Asked = new Map();
const byWork: Asked = new Map();
let world: World;
let partial: ReadonlySet<string>;
beforeAll(async () => {
  let route = "";
  world = await makeWorld({ onStatement: (text, parameters) => note(byRoutes, { text, parameters, by: route }) });
  for (const name of ROUTES.keys()) {
    route = name;
    const actors: readonly ActorName[] = [exampleOf(name, world.present).as ?? "admin", "anonymous", "superuser"];
    for (const actor of new Set(actors)) await world.ask(actor, askingOf(name, world.present));
  }
  recordStatements();
  await runServer();
  const { signal } = new AbortController();
  await sql`update organization set deleted_at = gradient_now() where name = 'second-org'`.execute(world.db);
  await deleteBuriedOrganizations(world.db, signal);
  await pruneSessions({ db: world.db }, signal);
  await pruneAuditEvents(world.db, signal);
  vi.restoreAllMocks();
  await fillTables(world.db, BOUNDED_TABLES);
  partial = await listPartialIndexes(world.db);
});
afterAll(() => world?.[Symbol.asyncDispose]());

test("no route reads a table whole that grows without bound", async () => {
  expect(byRoutes.size).toBeGreaterThan(200);
  expect(await scansOf(byRoutes, ({ by }) => by in ROUTES_OF_EVERYTHING)).toEqual([]);
});

test("nor does any periodic work, but what is about everything", async () => {
  const parts = Object.keys(WORK_OF_EVERYTHING);
  const isExpected = (text: string) =>
    parts.some((part) => text.replaceAll(/\s+/g, " ").replaceAll('"', "").includes(part));
  expect(await scansOf(byWork, ({ text }) => isExpected(text))).toEqual([]);
});

function note(asked: Asked, statement: Statement & { readonly by: string }): void {
  if (isExplained(statement.text) && !asked.has(statement.text)) asked.set(statement.text, statement);
}

async function scansOf(asked: Asked, isExpected: (statement: Statement & { readonly by: string }) => boolean) {
  const wrong: string[] = [];
  for (const statement of asked.values()) {
    if (isExpected(statement)) continue;
    const scans = await findScans(world.db, statement, partial);
    const whole = scans.filter((table) => !BOUNDED_TABLES.has(table));
    if (whole.length > 0) wrong.push(`${statement.by} reads ${whole.join(", ")} whole: ${statement.text}`);
  }
  return wrong;
}

function recordStatements(): void {
  const query = PreparingClient.prototype.query as (...args: unknown[]) => never;
  vi.spyOn(PreparingClient.prototype, "query").mockImplementation(function (this: unknown, ...args) {
    const [text, values = []] = args as unknown as [unknown, (readonly unknown[])?];
    if (typeof text === "string") note(byWork, { text, parameters: values, by: "periodic work" });
    return query.apply(this, args);
  });
}

/** A server on the world's database, until each of its loops has looked for what it is to do. */
async function runServer(): Promise<void> {
  await using folder = await withTemporaryFolder();
  const { rows } = await sql<{ name: string }>`select current_database() as name`.execute(world.db);
  const url = urlOf({ ...(await postgresAddress()), database: rows[0]?.name ?? "" });
  const { config } = readConfig({ GRADIENT_BASE_PATH: join(folder.path, "base"), GRADIENT_PORT: "0" });
  const secret = new TextEncoder().encode("s".repeat(48));
  const given = { database: { ...config.database, url }, secrets: { jwt: secret, crypt: secret } };
  const server = await startServer({ ...config, ...given }, createLoggers(config.logLevels, { write: () => {} }));
  try {
    const missing = () => LOOKED_FOR.filter((name) => ![...byWork.keys()].some((text) => text.includes(name)));
    await vi.waitFor(() => expect(missing()).toEqual([]), { timeout: 40_000, interval: 200 });
  } finally {
    await server.close();
  }
}
