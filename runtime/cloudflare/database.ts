import { Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import type { Database } from "#core/db/schema.ts";
import { rowTypes } from "#runtime/common/row-types.ts";

/** A Worker has six connections at a time, R2's among them. */
const CONNECTIONS_MAX = 2;
const CONNECT_TIMEOUT_MS = 8_000;
const QUERY_TIMEOUT_MS = 30_000;

/**
 * Connections of one request, made when they are needed: a socket belongs to the request that opened it. Hyperdrive
 * keeps the ones to the server. `destroy` ends them.
 */
export function openRequestDatabase(connectionString: string): Kysely<Database> {
  const pool = new pg.Pool({
    connectionString,
    max: CONNECTIONS_MAX,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    // On our side: Hyperdrive takes no settings of a session.
    query_timeout: QUERY_TIMEOUT_MS,
    types: rowTypes,
  });
  // A connection that is lost reports it to its statement as well.
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  return new Kysely<Database>({ dialect: new PostgresDialect({ pool }) });
}
