import { setTimeout as sleep } from "node:timers/promises";
import { Kysely, PostgresDialect, sql } from "kysely";
import { failureKind } from "#core/db/failure.ts";
import type { Database } from "#core/db/schema.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { PoolSizes } from "./config.ts";
import { migrate } from "./migrate.ts";
import { type ConnectionTarget, openPool, type PoolOptions } from "./pool.ts";

/** `NULLS NOT DISTINCT` of the schema needs it. */
const SERVER_VERSION_MIN = 150_000;
/** A request's statement that runs this long is a mistake; the scheduler's may touch large graphs. */
const WEB_STATEMENT_TIMEOUT_MS = 30_000;
const SCHEDULER_STATEMENT_TIMEOUT_MS = 300_000;
/** At boot the database may come up after us. */
const CONNECT_TRIES = 15;
const CONNECT_PAUSE_MS = 2_000;

export interface Databases {
  /** For the scheduler, the workers' sessions and the caches. */
  readonly scheduler: Kysely<Database>;
  /** For the API, so that neither starves the other. */
  readonly web: Kysely<Database>;
  close(): Promise<void>;
}

export interface DatabaseOptions {
  readonly scheduler: PoolSizes;
  readonly web: PoolSizes;
  readonly signal?: AbortSignal;
  readonly connectTries?: number;
}

/**
 * Connects (waiting for a database that is still starting), refuses one that is too old, brings the schema up to date
 * and opens the pools. Throws with words for the operator, which never show the password.
 */
export async function openDatabases(
  target: ConnectionTarget,
  options: DatabaseOptions,
  log: Logger,
): Promise<Databases> {
  await prepare(target, options, log);
  const open = (pool: Omit<PoolOptions, "onConnectionLost">): Kysely<Database> => {
    const onConnectionLost = (error: Error): void => log.warn("an idle database connection was lost", { error });
    return openKysely(target, { ...pool, onConnectionLost });
  };
  const scheduler = open({
    name: "scheduler",
    ...options.scheduler,
    statementTimeoutMs: SCHEDULER_STATEMENT_TIMEOUT_MS,
  });
  const web = open({ name: "web", ...options.web, statementTimeoutMs: WEB_STATEMENT_TIMEOUT_MS });
  const close = async (): Promise<void> => {
    await Promise.all([scheduler.destroy(), web.destroy()]);
  };
  return { scheduler, web, close };
}

/** A migration may take long: no limit on its statements. */
async function prepare(target: ConnectionTarget, options: DatabaseOptions, log: Logger): Promise<void> {
  const db = openKysely(target, { name: "migration", connectionsMax: 1 });
  try {
    await checkVersion(db, options, log);
    const applied = await migrate(db);
    if (applied.length > 0) log.info("the database schema was brought up to date", { migrations: applied });
  } finally {
    await db.destroy();
  }
}

async function checkVersion(db: Kysely<Database>, options: DatabaseOptions, log: Logger): Promise<void> {
  const { signal, connectTries = CONNECT_TRIES } = options;
  for (let attempt = 1; ; attempt++) {
    try {
      const { rows } = await sql<{ number: number; text: string }>`
        select current_setting('server_version_num')::int as number, current_setting('server_version') as text`.execute(
        db,
      );
      const version = rows[0];
      if (version && version.number >= SERVER_VERSION_MIN) return;
      throw new Error(
        `the database is PostgreSQL ${version?.text}, and the server needs version 15 or later: upgrade it`,
      );
    } catch (error) {
      const reason = error instanceof Error ? error.message || String(error) : String(error);
      if (reason.startsWith("the database is PostgreSQL")) throw error;
      if (failureKind(error) !== "connection" || attempt >= connectTries || signal?.aborted) {
        throw new Error(`no connection to the database: ${reason}`, { cause: error });
      }
      log.warn("the database does not answer yet, trying again", { reason, attempt });
      await sleep(CONNECT_PAUSE_MS, undefined, signal && { signal }).catch(() => {});
    }
  }
}

function openKysely(target: ConnectionTarget, options: PoolOptions): Kysely<Database> {
  return new Kysely<Database>({ dialect: new PostgresDialect({ pool: openPool(target, options) }) });
}
