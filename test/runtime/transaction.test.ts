import { sql } from "kysely";
import { expect, test } from "vitest";
import { failureKind } from "#core/db/failure.ts";
import { inTransaction } from "#core/db/transaction.ts";
import { withDatabase } from "#test/support/database.ts";

test("two transactions that lock each other out both succeed in the end", async () => {
  await using database = await withDatabase();
  await sql`create table pair (id int primary key, hits int not null)`.execute(database.db);
  await sql`insert into pair values (1, 0), (2, 0)`.execute(database.db);
  // Both hold their first row before either asks for its second.
  let holding = 0;
  let meet = () => {};
  const met = new Promise<void>((resolve) => {
    meet = resolve;
  });
  let bodies = 0;
  const hitBoth = (first: number, second: number) =>
    inTransaction(database.db, async (trx) => {
      bodies++;
      await sql`update pair set hits = hits + 1 where id = ${first}`.execute(trx);
      if (++holding >= 2) meet();
      await met;
      await sql`update pair set hits = hits + 1 where id = ${second}`.execute(trx);
    });

  await Promise.all([hitBoth(1, 2), hitBoth(2, 1)]);

  const { rows } = await sql<{ hits: number }>`select hits from pair order by id`.execute(database.db);
  expect(rows).toEqual([{ hits: 2 }, { hits: 2 }]);
  expect(bodies).toBe(3);
});

test("a conflict that does not end is reported after five tries", async () => {
  await using database = await withDatabase();
  let bodies = 0;

  const attempt = inTransaction(database.db, async (trx) => {
    bodies++;
    await sql`do $$ begin raise exception 'again' using errcode = '40001'; end $$`.execute(trx);
  });

  await expect(attempt).rejects.toThrow("again");
  expect(bodies).toBe(5);
});

test("other failures are not tried again, and the body's work is undone", async () => {
  await using database = await withDatabase();
  let bodies = 0;

  const attempt = inTransaction(database.db, async (trx) => {
    bodies++;
    await sql`create table left_over ()`.execute(trx);
    throw new Error("no");
  });

  await expect(attempt).rejects.toThrow("no");
  expect(bodies).toBe(1);
  const { rows } = await sql`select to_regclass('left_over') as name`.execute(database.db);
  expect(rows).toEqual([{ name: null }]);
});

test("a lost connection is told from a conflict and from a mistake", async () => {
  await using database = await withDatabase();
  const mistaken = await sql`select nothing`.execute(database.db).catch((error) => error);
  const ended = await sql`select pg_terminate_backend(pg_backend_pid())`.execute(database.db).catch((error) => error);

  expect(failureKind(ended)).toBe("connection");
  expect(failureKind(mistaken)).toBeNull();
});
