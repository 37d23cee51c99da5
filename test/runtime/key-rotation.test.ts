import { sql } from "kysely";
import { expect, test } from "vitest";
import { insertCache } from "#core/db/caches.ts";
import { utf8 } from "#core/lib/bytes.ts";
import { makeCacheKey } from "#core/services/cache-key.ts";
import { createSecretBox } from "#core/services/secret-box.ts";
import { readConfig } from "#runtime/node/config.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { startServer } from "#runtime/node/server.ts";
import { withDatabase } from "#test/support/database.ts";
import { newId } from "#test/support/rows.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";

test("a server that starts goes on with a walk that another one began", async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  const { db } = database;
  const secret = utf8("s".repeat(48));
  const id = newId();
  const settings = { serveUrl: "https://ci.example.com" } as Parameters<typeof makeCacheKey>[0]["settings"];
  const key = await makeCacheKey({ secrets: await createSecretBox(secret), settings }, id, "main");
  await insertCache(db, { id, name: "main", display_name: "Main", description: "", ...key });
  for (const name of ["a", "b"]) {
    const hash = name.padEnd(32, "0");
    await sql`
      with n as (
        insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key)
        values (sha256(${name}::bytea), 1, sha256(${name}::bytea), 1, 'zstd', ${`nar/${name}/x`}) returning nar_hash
      )
      insert into cache_path (cache_id, hash, store_path, nar_hash) select ${id}, ${hash}, ${`${hash}-x`}, nar_hash
      from n`.execute(db);
  }
  await db
    .updateTable("cache_key")
    .set({ walked_to: "a".padEnd(32, "0") })
    .execute();

  const { config } = readConfig({ GRADIENT_BASE_PATH: folder.path, GRADIENT_PORT: "0" });
  const given = { database: { ...config.database, url: database.url }, secrets: { jwt: secret, crypt: secret } };
  const server = await startServer({ ...config, ...given }, createLoggers(config.logLevels, { write: () => {} }));
  try {
    const walked = () => db.selectFrom("cache_key").select("walked_to").execute();
    await expect.poll(walked, { timeout: 10_000 }).toEqual([{ walked_to: null }]);
  } finally {
    await server.close();
  }
  const paths = await db.selectFrom("cache_path").select("signatures").orderBy("hash").execute();
  expect(paths).toEqual([
    { signatures: [] },
    { signatures: [expect.stringMatching(/^ci\.example\.com-main:[A-Za-z0-9+/]{86}==$/)] },
  ]);
});
