import { serve } from "@hono/node-server";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { countUnwalked, listKeys } from "#core/db/cache-keys.ts";
import { inTransaction } from "#core/db/transaction.ts";
import type { Actor } from "#core/domain/actor.ts";
import { CACHE_ROLE } from "#core/domain/permissions.ts";
import { makeSourcePath } from "#core/nix/store-path.ts";
import { commitPaths } from "#core/services/cache-commit.ts";
import { openCacheKey } from "#core/services/cache-key.ts";
import { retireCacheKey, rotateCacheKey } from "#core/services/key-rotation.ts";
import { walkKeys } from "#core/services/key-rotation-walk.ts";
import { migrationProvider } from "#migrations/index.ts";
import { nixAvailable, withNixDaemon } from "#test/support/nix.ts";
import { publish, substitute } from "./nix-closures.ts";
import { type CacheBench, newId, SIGNED_IN, storeFile, type TestCache, withCacheBench } from "./support.ts";

const nix = nixAvailable();
const settings = { serveUrl: "https://cache.example.org" } as Parameters<typeof rotateCacheKey>[0]["settings"];
const forever = new AbortController().signal;

let bench: CacheBench;
let keyDeps: Parameters<typeof rotateCacheKey>[0];
let walkDeps: Parameters<typeof walkKeys>[0];
beforeAll(async () => {
  bench = await withCacheBench();
  keyDeps = { ...bench.deps, settings };
  walkDeps = { ...bench.deps, secretKeyOf: bench.secretKeyOf };
  const { id, username } = OWNER.user;
  await bench.deps.db
    .insertInto("user_account")
    .values({ id, username, name: "", email: "owner@example.com" })
    .execute();
});
afterAll(() => bench[Symbol.asyncDispose]());

const OWNER: Actor & { readonly user: NonNullable<Actor["user"]> } = {
  ...SIGNED_IN,
  user: { id: newId(), username: "owner", superuser: false },
};

async function makeCache(): Promise<TestCache> {
  const cache = await bench.makeCache();
  const member = { cache_id: cache.id, user_id: OWNER.user.id, role_id: CACHE_ROLE.Admin };
  await bench.deps.db.insertInto("cache_member").values(member).execute();
  return cache;
}

const rotate = (cache: TestCache) => rotateCacheKey(keyDeps, OWNER, cache.name);
const retire = (cache: TestCache, id: string) =>
  retireCacheKey(keyDeps, OWNER, { cacheName: cache.name, id, force: false });

/** Many paths of one NAR. */
async function fill(cache: TestCache, count: number): Promise<void> {
  const stored = await storeFile(bench, "path");
  const paths = await Promise.all(
    Array.from({ length: count }, async (_, index) => ({
      ...stored,
      storePath: await makeSourcePath(`path-${index}`, stored.narHash.digest, []),
    })),
  );
  await bench.commit([cache.id], paths);
}

/** How many paths have signatures of just these names: `{ "a-1 a-2": 3 }`. */
async function signers(cache: TestCache): Promise<Record<string, number>> {
  const { rows } = await sql<{ names: string; count: number }>`
    select names, count(*)::int as count from (
      select (select string_agg(n, ' ' order by n) from unnest(signatures) s, split_part(s, ':', 1) n) as names
      from cache_path where cache_id = ${cache.id}) p
    group by names`.execute(bench.deps.db);
  return Object.fromEntries(rows.map(({ names, count }) => [names, count]));
}

test("a walk that is cut off goes on where it was, also when two walk, and each path is signed once", async () => {
  const cache = await makeCache();
  await fill(cache, 450);
  const name = `cache.example.org-${cache.name}`;
  await rotate(cache);
  const remaining = async () => {
    const found = await listKeys(bench.deps.db, cache.id);
    return Math.max(...(await Promise.all(found.map((key) => countUnwalked(bench.deps.db, key)))));
  };

  let opened = 0;
  const dying: typeof bench.secretKeyOf = async (key) => {
    if (++opened === 2) throw new Error("the server died");
    return await bench.secretKeyOf(key);
  };
  expect(await walkKeys({ ...walkDeps, secretKeyOf: dying }, forever)).toBe(false);
  expect(await remaining()).toBe(250);
  expect(await signers(cache)).toEqual({ [`${name} ${name}.2`]: 200, [name]: 250 });

  await Promise.all([walkKeys(walkDeps, forever), walkKeys(walkDeps, forever)]);
  await walkKeys(walkDeps, forever);
  expect(await remaining()).toBe(0);
  expect(await signers(cache)).toEqual({ [`${name} ${name}.2`]: 450 });
  const { rows } = await sql<{ xmin: string }>`
    select distinct xmin::text from cache_path where cache_id = ${cache.id}`.execute(bench.deps.db);
  // Three chunks, and no row was written again.
  expect(rows).toHaveLength(3);
});

test("the walk ends after the word to forget the cache, though a server died before", async () => {
  const cache = await makeCache();
  await fill(cache, 1);
  await rotate(cache);
  const walkTelling = (told: (subject: string) => void) =>
    walkKeys({ ...walkDeps, notifier: { ...bench.deps.notifier, notify: (_, subject) => told(subject) } }, forever);
  const die = () => {
    throw new Error("the server died");
  };
  expect(await walkTelling(die)).toBe(false);
  expect(await walkTelling((subject) => subject === `${cache.id}/` && die())).toBe(false);
  const told: string[] = [];
  expect(await walkTelling((subject) => told.push(subject))).toBe(true);
  expect(await walkTelling((subject) => told.push(subject))).toBe(true);
  expect(told).toEqual([`${cache.id}/`]);
});

test("what is committed while a key comes is signed by it too", async () => {
  const cache = await makeCache();
  const path = await storeFile(bench, "path");
  const begun = Promise.withResolvers<void>();
  const going = Promise.withResolvers<void>();
  const secretKeyOf: typeof bench.secretKeyOf = async (key) => {
    begun.resolve();
    await going.promise;
    return await bench.secretKeyOf(key);
  };
  const commit = { cacheIds: [cache.id], organizationId: null, paths: [path] };
  const committed = inTransaction(bench.deps.db, (trx) => commitPaths(trx, { secretKeyOf }, commit));
  await begun.promise;
  let done = false;
  const rotated = rotate(cache).then(() => {
    done = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 100));
  await walkKeys(walkDeps, forever);
  expect(done).toBe(false);
  going.resolve();
  await Promise.all([committed, rotated]);
  await walkKeys(walkDeps, forever);
  const name = `cache.example.org-${cache.name}`;
  expect(await signers(cache)).toEqual({ [`${name} ${name}.2`]: 1 });
});

test("the key that a cache had before there could be several is its first one, and opens", async () => {
  await using before = await withCacheBench();
  const { db, secrets } = before.deps;
  const cache = await before.makeCache();
  const names = Object.keys(await migrationProvider.getMigrations()).sort();
  const later = names.slice(names.indexOf("20261122T020000Z-rotate-cache-keys"));
  const migrations = await migrationProvider.getMigrations();
  for (const name of later.toReversed()) await migrations[name]?.down?.(db);
  const { rows } = await sql<{ public_key: string }>`select public_key from cache where id = ${cache.id}`.execute(db);
  expect(rows).toEqual([{ public_key: cache.publicKey }]);
  for (const name of later) await migrations[name]?.up(db);
  const key = await db.selectFrom("cache_key").selectAll().where("cache_id", "=", cache.id).executeTakeFirstOrThrow();
  expect(key).toMatchObject({ public_key: cache.publicKey, state: 0, walked_to: null });
  expect(cache.publicKey).toContain(`${(await openCacheKey({ secrets }, key)).name}:`);

  await db.updateTable("cache_key").set({ walked_to: "" }).execute();
  await expect(migrations[later[0] as string]?.down?.(db)).rejects.toThrow(/keys that would be lost/);
});

test.skipIf(!nix.ok)(
  "Nix trusts the old key or the new one while both sign, and the new one alone afterwards",
  async () => {
    await using daemon = await withNixDaemon();
    const cache = await makeCache();
    const path = await publish(bench, daemon, cache);
    const surface = bench.surface();
    const fetch = async (request: Request) => (await surface(request)) ?? new Response(null, { status: 404 });
    const server = serve({ fetch, port: 0, hostname: "127.0.0.1" });
    try {
      await new Promise((resolve) => server.once("listening", resolve));
      const { port } = server.address() as { port: number };
      const fetchBy = async (publicKey: string) => {
        const client = await substitute(daemon, { port, cache: { ...cache, publicKey }, path });
        return client.code === 0 && (await client.verify()).code === 0;
      };
      expect(await fetchBy(cache.publicKey)).toBe(true);
      const { public_key } = await rotate(cache);
      expect(await fetchBy(public_key)).toBe(false);
      await walkKeys(walkDeps, forever);
      expect([await fetchBy(cache.publicKey), await fetchBy(public_key)]).toEqual([true, true]);
      await retire(cache, cache.id);
      await walkKeys(walkDeps, forever);
      expect([await fetchBy(cache.publicKey), await fetchBy(public_key)]).toEqual([false, true]);
    } finally {
      server.close();
      if ("closeAllConnections" in server) server.closeAllConnections();
    }
  },
);
