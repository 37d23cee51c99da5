import pg from "pg";
import { rowTypes } from "#runtime/common/row-types.ts";
import { PreparingClient } from "./preparing-client.ts";

export type Pool = pg.Pool;

/** Where a PostgreSQL server is: a connection URL, or the parts of an address (a socket's folder as host). */
export type ConnectionTarget =
  | { readonly url: string }
  | {
      readonly host: string;
      readonly port: number;
      readonly user: string;
      readonly password: string;
      readonly database: string;
    };

export interface PoolOptions {
  /** Shown in `pg_stat_activity`. */
  readonly name: string;
  readonly connectionsMax: number;
  readonly connectionsMin?: number;
  /** Longest run of one statement; 0 is no limit. */
  readonly statementTimeoutMs?: number;
  /** Told of the end of a connection that nobody was using. */
  readonly onConnectionLost?: (error: Error) => void;
}

/** How long a request waits for a free connection before it fails. */
const ACQUIRE_TIMEOUT_MS = 8_000;
const IDLE_TIMEOUT_MS = 600_000;
const LIFETIME_SECONDS = 1_800;
/** A transaction that does nothing holds locks for nobody. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000;

/** Rows come as `core/db/schema.ts` says. The caller ends the pool. */
export function openPool(target: ConnectionTarget, options: PoolOptions): Pool {
  const pool = new pg.Pool({
    ...clientConfig(target, options.name),
    Client: PreparingClient,
    max: options.connectionsMax,
    min: options.connectionsMin ?? 0,
    connectionTimeoutMillis: ACQUIRE_TIMEOUT_MS,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    maxLifetimeSeconds: LIFETIME_SECONDS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    ...(options.statementTimeoutMs && { statement_timeout: options.statementTimeoutMs }),
  });
  const lost = options.onConnectionLost ?? (() => {});
  // An idle connection reports its end to the pool. One in use reports it to its statement and once more by itself,
  // which would end the process if nobody listened.
  pool.on("error", lost);
  pool.on("connect", (client) => client.on("error", () => {}));
  return pool;
}

/** For a connection of its own (listening, migrations). */
export function clientConfig(target: ConnectionTarget, name: string): pg.ClientConfig {
  const where = "url" in target ? { connectionString: target.url } : { ...target, ssl: false };
  return { ...where, application_name: `gradient ${name}`, keepAlive: true, types: rowTypes };
}
