import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { sql } from "kysely";
import { expect, test } from "vitest";
import { type Config, ConfigError, readConfig } from "#runtime/node/config.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { type RunningServer, startServer } from "#runtime/node/server.ts";
import { nameSharedStorage } from "#runtime/node/shared-storage.ts";
import { type TestDatabase, withDatabase } from "#test/support/database.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";

/** `storage`: the shared one. Without it NARs are in the base folder. */
async function start(database: TestDatabase, base: string, storage?: string): Promise<RunningServer> {
  const { config } = readConfig({ GRADIENT_BASE_PATH: base, GRADIENT_PORT: "0" });
  const secret = new TextEncoder().encode("s".repeat(48));
  const whole: Config = {
    ...config,
    storage: { ...config.storage, sharedPath: storage ?? null },
    database: { ...config.database, url: database.url },
    secrets: { jwt: secret, crypt: secret },
  };
  return await startServer(whole, createLoggers(config.logLevels, { write: () => {} }));
}

test("servers with one storage run beside each other, and a lost connection costs none its place", async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  const at = (name: string) => join(folder.path, name);
  const one = await start(database, at("one"), at("storage"));
  const other = await start(database, at("other"), at("storage"));
  await sql`select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'gradient shared server' and datname = current_database()`.execute(database.db);

  await expect(start(database, at("alone"))).rejects.toThrow(/NARs on a local disk cannot be shared/);
  const servers = await database.db.selectFrom("server").select("storage").execute();
  expect(servers).toHaveLength(2);
  expect(new Set(servers.map(({ storage }) => storage)).size).toBe(1);

  await one.close();
  expect(await database.db.selectFrom("server").select("storage").execute()).toHaveLength(1);
  await other.close();
});

test("a server with NARs on its own disk lets nobody beside it, not even one with a shared storage", async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  const alone = await start(database, join(folder.path, "alone"));

  await expect(start(database, join(folder.path, "other"), join(folder.path, "storage"))).rejects.toThrow(
    "another server is running on this database that keeps NARs on a disk of its own: stop it",
  );

  await alone.close();
});

test("servers that see different folders as their storage do not run together", async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  const one = await start(database, join(folder.path, "one"), join(folder.path, "storage"));

  await expect(start(database, join(folder.path, "other"), join(folder.path, "elsewhere"))).rejects.toThrow(
    "all servers of a database must share one storage",
  );

  await one.close();
});

test("a storage has one name, whoever asks first", async () => {
  await using folder = await withTemporaryFolder();
  await mkdir(join(folder.path, "storage"));

  const names = await Promise.all(Array.from({ length: 5 }, () => nameSharedStorage(join(folder.path, "storage"))));

  expect(new Set(names).size).toBe(1);
  expect(await nameSharedStorage(join(folder.path, "storage"))).toBe(names[0]);
});

test("a shared storage without a shared database is a mistake in the configuration", () => {
  const read = () => readConfig({ GRADIENT_SHARED_STORAGE_PATH: "/srv/storage" });
  expect(read).toThrow(ConfigError);
  expect(read).toThrow(/GRADIENT_SHARED_STORAGE_PATH: servers that share a storage share a database too/);
});

test("how often the graph is audited is a setting: 300 seconds unless it says otherwise, and 0 is never", () => {
  const interval = (value?: string) =>
    readConfig(value === undefined ? {} : { GRADIENT_GRAPH_CONSISTENCY_INTERVAL: value }).config.auditIntervalMs;
  expect([interval(), interval("7"), interval("0")]).toEqual([300_000, 7_000, 0]);
});
