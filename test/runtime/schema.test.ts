import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { sql } from "kysely";
import { expect, test } from "vitest";
import { searchUsers } from "#core/db/users.ts";
import { migrationProvider } from "#migrations/index.ts";
import { schemaText } from "#scripts/schema-text.ts";
import { withDatabase, withEmptyDatabase } from "#test/support/database.ts";
import { newId } from "#test/support/rows.ts";

test("migrations/schema.sql is what the migrations make: run node scripts/dump-schema.ts after a change", async () => {
  await using database = await withDatabase();
  const file = await readFile(join(import.meta.dirname, "../../migrations/schema.sql"), "utf8");

  expect(await schemaText(database.db)).toBe(file);
});

test("a database where pg_trgm cannot be had is migrated, without the indexes that need it", async () => {
  await using database = await withDatabase();
  const { db } = database;
  const migrations = await migrationProvider.getMigrations();
  const lists = migrations["20261122T042000Z-index-lists"];
  await lists?.down?.(db);
  // As where its packages are not: nothing that the migration names is found.
  await sql`drop extension pg_trgm`.execute(db);
  await sql`create schema elsewhere`.execute(db);
  await sql`create extension pg_trgm schema elsewhere`.execute(db);
  await lists?.up(db);

  const indexes = sql<{
    name: string;
  }>`select indexname as name from pg_indexes where indexname ~ '_(part|asked)_idx$'`;
  expect((await indexes.execute(db)).rows).toEqual([{ name: "mail_asked_idx" }]);
  expect(await searchUsers(db, "part", 10)).toEqual([]);
});

test("who may write down that a path was used, as the edge may, is let count its uses by the upgrade", async () => {
  await using database = await withDatabase();
  const { db } = database;
  const migrations = await migrationProvider.getMigrations();
  const counts = migrations["20261123T000100Z-count-fetches"];
  await counts?.down?.(db);
  const role = sql.id(`edge ${newId()}`);
  await sql`create role ${role}`.execute(db);
  try {
    await sql`grant update (last_used_at) on cache_path to ${role}`.execute(db);
    await counts?.up(db);

    const asRole = db.transaction().execute(async (trx) => {
      await sql`set local role ${role}`.execute(trx);
      await sql`update cache_path set last_used_at = gradient_now(), fetch_count = 1`.execute(trx);
    });
    await expect(asRole).resolves.toBeUndefined();
  } finally {
    await sql`drop owned by ${role}`.execute(db);
    await sql`drop role ${role}`.execute(db);
  }
});

test("a difference of one column, default, constraint or index shows in the text", async () => {
  await using database = await withDatabase();
  const before = await schemaText(database.db);
  for (const change of [
    sql`alter table project add column extra text`,
    sql`alter table project alter column active set default false`,
    sql`alter table project add constraint extra_check check (extra <> '')`,
    sql`create index extra_idx on project (extra)`,
    sql`create function extra() returns int language sql as 'select 1'`,
    sql`alter table retention_step set logged`,
    sql`drop trigger cache_path_lose on cache_path`,
  ]) {
    const last = await schemaText(database.db);
    await change.execute(database.db);
    expect(await schemaText(database.db)).not.toBe(last);
  }
  expect(await schemaText(database.db)).not.toBe(before);
});

test("each migration can be taken back, the last one first, and leaves nothing", async () => {
  await using database = await withDatabase();
  const migrations = await migrationProvider.getMigrations();
  for (const name of Object.keys(migrations).sort().reverse()) await migrations[name]?.down?.(database.db);

  await using empty = await withEmptyDatabase();
  expect(await schemaText(database.db)).toBe(await schemaText(empty.db));
});
