import { type Kysely, sql } from "kysely";
import { expect, test } from "vitest";
import type { Database } from "#core/db/schema.ts";
import { takeServerPlace } from "#runtime/node/sole-server.ts";
import { withDatabase } from "#test/support/database.ts";
import { quietLogger } from "#test/support/quiet-logger.ts";

const SOON = { timeout: 10_000, interval: 10 };
const log = quietLogger;

async function sessions(db: Kysely<Database>, name: string): Promise<number[]> {
  const { rows } = await sql<{ pid: number }>`
    select pid from pg_stat_activity
    where application_name = ${`gradient ${name}`} and datname = current_database()`.execute(db);
  return rows.map(({ pid }) => pid);
}

/** Answers the process of the session that had it. */
async function cut(db: Kysely<Database>, name: string): Promise<number> {
  const [pid] = await sessions(db, name);
  await sql`select pg_terminate_backend(${pid})`.execute(db);
  return pid as number;
}

test("a place that is released while it is taken anew leaves no connection behind", async () => {
  await using database = await withDatabase();
  const { db, address } = database;
  const place = await takeServerPlace(address, { shared: true, log });
  await db.connection().execute(async (other) => {
    // Somebody waits for the place, and then is in the way for a moment.
    const taken = sql`select pg_advisory_lock(7233741)`.execute(other);
    const waits = () =>
      sql`select from pg_locks l join pg_database d on d.oid = l.database
        where d.datname = current_database() and l.locktype = 'advisory' and not l.granted`.execute(db);
    await expect.poll(async () => (await waits()).rows.length, SOON).toBe(1);
    await cut(db, "shared server");
    await taken;
    await new Promise((resolve) => setTimeout(resolve, 200));
    const released = place.release();
    await sql`select pg_advisory_unlock_all()`.execute(other);
    await released;
  });
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  expect(await sessions(db, "shared server")).toEqual([]);
});

test("a place whose connection is cut is taken anew, and given to others only when it is released", async () => {
  await using database = await withDatabase();
  const { db, address } = database;
  const place = await takeServerPlace(address, { shared: false, log });
  const before = await cut(db, "sole server");
  await expect
    .poll(async () => (await sessions(db, "sole server")).filter((pid) => pid !== before).length, SOON)
    .toBe(1);
  await expect(takeServerPlace(address, { shared: false, log })).rejects.toThrow("another server is running");

  await place.release();

  const next = await takeServerPlace(address, { shared: false, log });
  await next.release();
}, 30_000);
