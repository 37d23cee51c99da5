import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Pool } from "pg";
import { openPool } from "#runtime/node/pool.ts";
import { startPostgres } from "#runtime/node/postgres/start.ts";
import { type Gradient, withGradient } from "#test/e2e/gradient.ts";
import { quietLogger } from "#test/support/quiet-logger.ts";
import { withMemoryFolder } from "./memory-folder.ts";
import { pinBesideClients, pinMainThread, pinServer } from "./processes.ts";

/** Of the one with a million paths, with what PostgreSQL writes ahead. */
const DATABASE_BYTES_MAX = 4 * 1024 ** 3;

/** An installation whose database is filled from here. */
export interface FilledInstallation extends AsyncDisposable {
  readonly gradient: Gradient;
  /** From now on the server and PostgreSQL stay on the servers' CPU. Until then they have all of them. */
  pin(): Promise<void>;
  /** From now on the server's main thread has the servers' CPU, and PostgreSQL and all else share the clients'. */
  pinMainThread(): Promise<void>;
}

/** Starts server and worker, runs `prepare`, ends the worker and fills the database, which is in memory. */
export async function withFilledDatabase(
  settings: Readonly<Record<string, string>>,
  {
    prepare = async () => {},
    fill,
  }: {
    readonly prepare?: (gradient: Gradient) => Promise<void>;
    readonly fill: (pool: Pool) => Promise<void>;
  },
): Promise<FilledInstallation> {
  await using stack = new AsyncDisposableStack();
  const { path: folder } = stack.use(await withMemoryFolder(DATABASE_BYTES_MAX));
  const postgres = await startPostgres({ folder: join(folder, "postgres"), log: quietLogger });
  stack.defer(() => postgres.stop());
  const { host, port, user, password, database } = postgres.address;
  const url = `postgresql://${user}:${password}@localhost:${port}/${database}?host=${encodeURIComponent(host)}`;
  const secret = join(folder, "secret");
  await writeFile(secret, randomBytes(48).toString("base64"), { mode: 0o600 });
  const secrets = { GRADIENT_JWT_SECRET_FILE: secret, GRADIENT_CRYPT_SECRET_FILE: secret };
  const gradient = stack.use(await withGradient({ ...settings, ...secrets, GRADIENT_DATABASE_URL: url }));
  await prepare(gradient);
  await gradient.worker.stop();
  const pool = openPool(postgres.address, { name: "bench", connectionsMax: 1 });
  await fill(pool).finally(() => pool.end());
  const pin = async () => {
    for (const pid of [gradient.server.pid, postgres.pid]) await pinServer(pid);
  };
  const pinMain = async () => {
    await pinMainThread(gradient.server.pid);
    await pinBesideClients(postgres.pid);
  };
  const running = stack.move();
  return { gradient, pin, pinMainThread: pinMain, [Symbol.asyncDispose]: () => running.disposeAsync() };
}
