import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kysely, PostgresDialect } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { readConfig } from "#runtime/node/config.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { migrate } from "#runtime/node/migrate.ts";
import { openPool } from "#runtime/node/pool.ts";
import { startPostgres } from "#runtime/node/postgres/start.ts";
import { schemaText } from "./schema-text.ts";

// Writes migrations/schema.sql anew, from a database that was made for it.
const target = join(import.meta.dirname, "../migrations/schema.sql");
const folder = await mkdtemp(join(tmpdir(), "gradient-schema-"));
try {
  const log = createLoggers(readConfig({}).config.logLevels).main;
  const postgres = await startPostgres({ folder, log, durable: false });
  const pool = openPool(postgres.address, { name: "schema", connectionsMax: 1 });
  const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }) });
  try {
    await migrate(db);
    await writeFile(target, await schemaText(db));
  } finally {
    await db.destroy();
    await postgres.stop();
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
