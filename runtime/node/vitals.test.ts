import { DummyDriver, Kysely, PostgresAdapter, PostgresIntrospector, PostgresQueryCompiler } from "kysely";
import { expect, test } from "vitest";
import type { Database } from "#core/db/schema.ts";
import { vitalsOf } from "./vitals.ts";

/** A database whose connections come when `connection` resolves, and fail as it fails. */
function databaseOf(connection: () => Promise<void>): Kysely<Database> {
  class Driver extends DummyDriver {
    override async acquireConnection() {
      await connection();
      return await super.acquireConnection();
    }
  }
  return new Kysely<Database>({
    dialect: {
      createAdapter: () => new PostgresAdapter(),
      createDriver: () => new Driver(),
      createIntrospector: (db) => new PostgresIntrospector(db),
      createQueryCompiler: () => new PostgresQueryCompiler(),
    },
  });
}

const healthy = databaseOf(async () => {});
const place = { url: "http://127.0.0.1:3000", connections: () => 1 };

test("a server whose database is away lives, and says so until it is back", async () => {
  let isAway = true;
  const scheduler = databaseOf(async () => {
    if (isAway) throw new Error("connect ECONNREFUSED");
  });
  const vitals = vitalsOf({ scheduler, web: healthy }, place);
  await vitals.check();
  expect(vitals.describe()).toBe("the database does not answer: connect ECONNREFUSED");
  isAway = false;
  await vitals.check();
  expect(vitals.describe()).toBe("serves at http://127.0.0.1:3000; 1 worker is connected");
});

test("a server with a pool that gives no connection back does not call itself alive", async () => {
  const given = Promise.withResolvers<void>();
  const vitals = vitalsOf({ scheduler: healthy, web: databaseOf(() => given.promise) }, place);
  let isAlive = false;
  const checked = vitals.check().then(() => (isAlive = true));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(isAlive).toBe(false);
  given.resolve();
  await checked;
});
