import { sql } from "kysely";
import { expect, test } from "vitest";
import { withDatabase } from "#test/support/database.ts";

test("rows hold safe numbers, plain bytes and dates", async () => {
  await using database = await withDatabase();

  const { rows } = await sql`select 9007199254740991::int8 as size, array[1, null, -2]::int8[] as sizes,
    '\\x0001ff'::bytea as bytes, '2026-01-02T03:04:05.678Z'::timestamptz as at, count(*) as count, null::int8 as nothing
    from generate_series(1, 3)`.execute(database.db);

  expect(rows).toEqual([
    {
      size: 9_007_199_254_740_991,
      sizes: [1, null, -2],
      bytes: Uint8Array.of(0, 1, 255),
      at: new Date("2026-01-02T03:04:05.678Z"),
      count: 3,
      nothing: null,
    },
  ]);
  expect(Buffer.isBuffer((rows[0] as { bytes: unknown }).bytes)).toBe(false);
});

test("a number that would be rounded is an error", async () => {
  await using database = await withDatabase();
  const big = sql`select 9007199254740993::int8 as size`.execute(database.db);
  await expect(big).rejects.toThrow("9007199254740993, which is not a safe integer");
});

test("bytes of every value go in as they are, alone and in lists", async () => {
  await using database = await withDatabase();
  const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
  const part = bytes.subarray(10, 20);

  const { rows } =
    await sql`select ${part}::bytea as one, ${[part, bytes]}::bytea[] = array[${part}::bytea, ${bytes}::bytea]
    as same`.execute(database.db);

  expect(rows).toEqual([{ one: Uint8Array.from(part), same: true }]);
});

test("a connection that ends while it is used fails its statement, and the pool goes on", async () => {
  await using database = await withDatabase();
  const slow = sql`select pg_sleep(30)`.execute(database.db);
  const ended = expect(slow).rejects.toThrow();
  await expect
    .poll(async () => {
      const { rows } = await sql<{ count: number }>`select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and query like 'select pg_sleep%'`.execute(database.db);
      return rows[0]?.count;
    })
    .toBe(1);
  await ended;

  const works = () => sql`select 1 as one`.execute(database.db).then(({ rows }) => rows);
  // For a moment the pool may still give out the connection that is on its way out.
  await expect.poll(() => works().catch(() => null)).toEqual([{ one: 1 }]);
});
