import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import type { TestProject } from "vitest/node";
import type { Database } from "#core/db/schema.ts";
import { migrate } from "#runtime/node/migrate.ts";
import { openPool } from "#runtime/node/pool.ts";
import { type DatabaseAddress, type RunningPostgres, startPostgres } from "#runtime/node/postgres/start.ts";
import { quietLogger } from "./quiet-logger.ts";
import { TEMPLATE } from "./template.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** A socket that answers with a `DatabaseAddress` as JSON, or with `{ error }`. */
    postgresBroker: string;
  }
}

const SYSTEM_BINARIES = "/usr/lib/postgresql/15/bin";

/**
 * One PostgreSQL a run, started when the first test asks for a database. `GRADIENT_TEST_POSTGRES=system` takes Debian's
 * version 15, the oldest that we support, instead of the bundled one.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), "gradient-test-"));
  let starting: Promise<RunningPostgres> | null = null;
  const broker = createServer((socket) => {
    socket.on("error", () => {});
    starting ??= startTestPostgres(folder);
    starting.then(
      ({ address }) => socket.end(JSON.stringify(address)),
      (error: unknown) => socket.end(JSON.stringify({ error: String(error) })),
    );
  });
  const path = join(folder, "broker");
  await listen(broker, path);
  project.provide("postgresBroker", path);
  return async () => {
    broker.close();
    await starting?.then(
      (running) => running.stop(),
      () => {},
    );
    await rm(folder, { recursive: true, force: true });
  };
}

/** A server with the migrated template that databases of tests are copied from. It forgets everything in a crash. */
export async function startTestPostgres(folder: string): Promise<RunningPostgres> {
  const system = process.env.GRADIENT_TEST_POSTGRES === "system";
  const running = await startPostgres({
    folder: join(folder, "postgres"),
    log: quietLogger,
    durable: false,
    connectionsMax: 200,
    ...(system && { binariesFolder: SYSTEM_BINARIES }),
  });
  try {
    await makeTemplate(running.address);
  } catch (error) {
    await running.stop();
    throw error;
  }
  return running;
}

async function makeTemplate(address: DatabaseAddress): Promise<void> {
  const client = new pg.Client({ ...address, ssl: false });
  await client.connect();
  await client.query(`create database ${TEMPLATE}`);
  await client.end();
  const pool = openPool({ ...address, database: TEMPLATE }, { name: "template", connectionsMax: 1 });
  const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }) });
  await migrate(db);
  await db.destroy();
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
}
