import { randomUUID } from "node:crypto";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import { inject } from "vitest";
import type { Database } from "#core/db/schema.ts";
import { openPool, type Pool } from "#runtime/node/pool.ts";
import type { DatabaseAddress } from "#runtime/node/postgres/start.ts";
import { copyStatement, TEMPLATE } from "./template.ts";

export interface TestDatabase extends AsyncDisposable {
  readonly db: Kysely<Database>;
  readonly pool: Pool;
  readonly address: DatabaseAddress;
  /** For a process of its own (`GRADIENT_DATABASE_URL`). */
  readonly url: string;
}

/** A migrated database of its own on the run's PostgreSQL server; disposing drops it, whoever still uses it. */
export async function withDatabase(options: { readonly connectionsMax?: number } = {}): Promise<TestDatabase> {
  return await makeDatabase(TEMPLATE, options.connectionsMax);
}

/** The same without any table. */
export async function withEmptyDatabase(): Promise<TestDatabase> {
  return await makeDatabase("template1");
}

async function makeDatabase(template: string, connectionsMax = 10): Promise<TestDatabase> {
  const server = await postgresAddress();
  const database = `test_${randomUUID().replaceAll("-", "")}`;
  await administer(server, copyStatement(server, database, template));

  const address = { ...server, database };
  const pool = openPool(address, { name: "test", connectionsMax });
  const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }) });
  const dispose = async (): Promise<void> => {
    await db.destroy();
    await administer(server, `drop database if exists ${database} with (force)`);
  };
  return { db, pool, address, url: urlOf(address), [Symbol.asyncDispose]: dispose };
}

async function administer(server: DatabaseAddress, statement: string): Promise<void> {
  const client = new pg.Client({ ...server, ssl: false });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

/** The run's PostgreSQL server, as its owner. */
export async function postgresAddress(): Promise<DatabaseAddress> {
  const answer = JSON.parse(await text(connect(inject("postgresBroker")))) as DatabaseAddress | { error: string };
  if ("error" in answer) throw new Error(`no PostgreSQL for tests: ${answer.error}`);
  return answer;
}

/** As `GRADIENT_DATABASE_URL` names it. */
export function urlOf({ host, port, user, password, database }: DatabaseAddress): string {
  return `postgresql://${user}:${password}@localhost:${port}/${database}?host=${encodeURIComponent(host)}`;
}
