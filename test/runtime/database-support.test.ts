import { sql } from "kysely";
import { expect, test } from "vitest";
import { withDatabase } from "#test/support/database.ts";

test("each test has a migrated database of its own", async () => {
  await using first = await withDatabase();
  await using second = await withDatabase();
  await sql`insert into user_account (id, username, name, email)
    values (gen_random_uuid(), 'ada', 'Ada', 'ada@example.org')`.execute(first.db);

  const count = (db: typeof first.db) =>
    db
      .selectFrom("user_account")
      .select(({ fn }) => fn.countAll<number>().as("users"))
      .executeTakeFirstOrThrow();

  expect(await count(first.db)).toEqual({ users: 1 });
  expect(await count(second.db)).toEqual({ users: 0 });
});
