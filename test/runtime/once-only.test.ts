import { sql } from "kysely";
import { expect, test } from "vitest";
import { type OnceOnly, startOnceOnly } from "#runtime/node/once-only.ts";
import type { DatabaseAddress } from "#runtime/node/postgres/start.ts";
import { withDatabase } from "#test/support/database.ts";
import { quietLogger } from "#test/support/quiet-logger.ts";

const SOON = { timeout: 20_000, interval: 20 };

interface Candidate extends AsyncDisposable {
  readonly works: () => boolean;
}

/** A server that does the work for as long as it may. */
function candidate(address: DatabaseAddress): Candidate {
  let works = false;
  const running: OnceOnly = startOnceOnly(address, quietLogger, async (signal) => {
    works = true;
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    works = false;
  });
  return { works: () => works, [Symbol.asyncDispose]: () => running.close() };
}

test("one of several servers does what only one does, and another goes on when it ends", async () => {
  await using database = await withDatabase();
  const first = candidate(database.address);
  await expect.poll(first.works, SOON).toBe(true);
  await using second = candidate(database.address);
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(second.works()).toBe(false);

  await first[Symbol.asyncDispose]();

  expect(first.works()).toBe(false);
  await expect.poll(second.works, SOON).toBe(true);
});

test("who loses the connection to the database stops, and somebody does the work again", async () => {
  await using database = await withDatabase();
  await using first = candidate(database.address);
  await expect.poll(first.works, SOON).toBe(true);
  await using second = candidate(database.address);

  await sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'gradient once-only work' and datname = current_database()`.execute(database.db);

  await expect.poll(first.works, SOON).toBe(false);
  await expect.poll(() => [first.works(), second.works()].filter((works) => works).length, SOON).toBe(1);
});

test("work that fails begins again", async () => {
  await using database = await withDatabase();
  let tries = 0;
  const running = startOnceOnly(database.address, quietLogger, async () => {
    tries++;
    if (tries === 1) throw new Error("not today");
  });
  await expect.poll(() => tries, SOON).toBe(2);
  await running.close();
});

test("who is asked to end while it takes the lock begins nothing, and ends", async () => {
  await using database = await withDatabase();
  await using asked = candidate(database.address);

  await asked[Symbol.asyncDispose]();

  expect(asked.works()).toBe(false);
});
