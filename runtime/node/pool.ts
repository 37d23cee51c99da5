import pg from "pg";
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

/** `oid`s of pg_type. */
const INT8 = 20;
const INT8_ARRAY = 1016;
const BYTEA = 17;
const TEXT_ARRAY = 1009;

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
  return { ...where, application_name: `gradient ${name}`, keepAlive: true, types };
}

/** Throws where a `bigint` does not fit: a rounded id or size must never be used. */
export function parseSafeInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`the database holds ${text}, which is not a safe integer`);
  return value;
}

type Parse = (text: string) => unknown;

const parseArrayOfText = pg.types.getTypeParser(TEXT_ARRAY as number) as Parse;
const parseBuffer = pg.types.getTypeParser(BYTEA) as Parse;

const parsers: Readonly<Record<number, Parse>> = {
  [INT8]: parseSafeInteger,
  [INT8_ARRAY]: (text) =>
    (parseArrayOfText(text) as (string | null)[]).map((item) => (item === null ? null : parseSafeInteger(item))),
  [BYTEA]: (text) => {
    // Node's Buffer shares memory where Uint8Array copies (`slice`); rows hold plain bytes.
    const { buffer, byteOffset, byteLength } = parseBuffer(text) as Buffer;
    return new Uint8Array(buffer, byteOffset, byteLength);
  },
};

const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: "text" | "binary") =>
    (format !== "binary" && parsers[oid]) || pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
};
