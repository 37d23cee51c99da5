import { sql } from "kysely";
import { expect, test } from "vitest";
import { touchPaths } from "#core/db/cache-paths.ts";
import type { Clock } from "#core/lib/clock.ts";
import { storePathHash } from "#core/nix/store-path.ts";
import { createPathUses } from "#core/services/cache-uses.ts";
import { countedQueries } from "./counted-queries.ts";
import { type StoredPath, storeFile, withCacheBench } from "./support.ts";
import { asking, narInfoUrl, withPath } from "./surface-support.ts";

test("asking for a narinfo counts as use", async () => {
  await using bench = await withCacheBench();
  const { db } = bench.deps;
  const { cache, path } = await withPath(bench);
  const idle = await storeFile(bench, "idle");
  await bench.commit([cache.id], [idle]);
  const longAgo = new Date("2020-01-01");
  await db.updateTable("cache_path").set({ last_used_at: longAgo }).execute();
  const uses = createPathUses(bench.deps);
  const ask = asking(bench, { uses });
  for (let i = 0; i < 3; i++) await ask(narInfoUrl(cache, path));
  await uses.flush();

  const used = await db.selectFrom("cache_path").select(["hash", "last_used_at"]).execute();
  const agoOf = (of: StoredPath) => used.find((row) => row.hash === storePathHash(of.storePath))?.last_used_at;
  expect(agoOf(idle)).toEqual(longAgo);
  expect(agoOf(path)?.getTime()).toBeGreaterThan(Date.now() - 60_000);
});

test("uses are counted once in ten minutes, and what is left of them when a server ends", async () => {
  await using bench = await withCacheBench();
  const { db, log, clock } = bench.deps;
  const { cache, path } = await withPath(bench);
  const subject = `${cache.id}/${storePathHash(path.storePath)}`;
  const counted = async () =>
    (await db.selectFrom("cache_path").select("fetch_count").executeTakeFirstOrThrow()).fetch_count;
  await db
    .updateTable("cache_path")
    .set({ last_used_at: new Date(0) })
    .execute();
  let minutes = 0;
  const uses = createPathUses({ db, log, clock: { ...clock, monotonic: () => minutes * 60_000 } });
  const touch = async (times: number, options?: { readonly counts: boolean }) => {
    for (let i = 0; i < times; i++) uses.touch(subject);
    await uses.flush(options);
    return await counted();
  };

  expect(await touch(3)).toBe(3);
  expect(await touch(2)).toBe(3);
  minutes = 9;
  expect(await touch(1)).toBe(3);
  minutes = 10;
  expect(await touch(1)).toBe(7);
  expect(await touch(0)).toBe(7);
  expect(await touch(4)).toBe(7);
  expect(await touch(1, { counts: true })).toBe(12);

  const later = await storeFile(bench, "later");
  uses.touch(`${cache.id}/${storePathHash(later.storePath)}`);
  await uses.flush();
  await bench.commit([cache.id], [later]);
  await uses.flush({ counts: true });
  const counts = await db.selectFrom("cache_path").select("fetch_count").orderBy("fetch_count").execute();
  expect(counts, "what has no row is not kept").toEqual([{ fetch_count: 0 }, { fetch_count: 12 }]);
});

test("of more paths than are kept for their counts the oldest are written", { timeout: 120_000 }, async () => {
  await using bench = await withCacheBench();
  const { db, log, clock } = bench.deps;
  const { cache, path } = await withPath(bench);
  const newer = await storeFile(bench, "newer");
  await bench.commit([cache.id], [newer]);
  let now = 0;
  const uses = createPathUses({ db, log, clock: { ...clock, monotonic: () => now } });
  uses.touch(`${cache.id}/${storePathHash(path.storePath)}`);
  now = 1;
  for (let i = 0; i < 49_999; i++) uses.touch(`${cache.id}/${String(i).padStart(32, "0")}`);
  uses.touch(`${cache.id}/${storePathHash(newer.storePath)}`);

  await uses.flush();

  const counts = await db.selectFrom("cache_path").select(["store_path", "fetch_count"]).execute();
  expect(Object.fromEntries(counts.map((row) => [row.store_path.slice(33), row.fetch_count]))).toEqual({
    [path.storePath.slice(44)]: 1,
    newer: 0,
  });
});

test("uses that the database could not take are kept for the next flush", async () => {
  await using bench = await withCacheBench();
  const { db } = bench.deps;
  const { cache, path } = await withPath(bench);
  const uses = createPathUses(bench.deps);
  await db
    .updateTable("cache_path")
    .set({ last_used_at: new Date(0) })
    .execute();
  uses.touch(`${cache.id}/${storePathHash(path.storePath)}`);
  await sql`alter table cache_path rename to away`.execute(db);
  await expect(uses.flush()).rejects.toThrow();
  await sql`alter table away rename to cache_path`.execute(db);
  uses.touch(`${cache.id}/${storePathHash(path.storePath)}`);
  await uses.flush();

  const row = await db.selectFrom("cache_path").select(["last_used_at", "fetch_count"]).executeTakeFirstOrThrow();
  expect(row.last_used_at.getTime()).toBeGreaterThan(0);
  expect(row.fetch_count).toBe(2);
});

test("nobody waits for the disk when uses are written", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench);
  const use = { cacheId: cache.id, hash: storePathHash(path.storePath), count: 1, isDue: true };

  const waits = await bench.deps.db.transaction().execute(async (trx) => {
    await sql`set local synchronous_commit = on`.execute(trx);
    await touchPaths(trx, [use]);
    return (await sql`show synchronous_commit`.execute(trx)).rows;
  });

  expect(waits).toEqual([{ synchronous_commit: "off" }]);
});

/** Its pauses end when they are told to. It moves on by a second whenever it is looked at. */
function pausingClock() {
  let now = 0;
  const pauses: { ms: number; end: () => void }[] = [];
  const clock: Clock = {
    now: () => now,
    monotonic: () => now++ * 1_000,
    schedule(ms, end) {
      pauses.push({ ms, end });
      return () => {};
    },
  };
  return { clock, pauses };
}

async function withUses() {
  const bench = await withCacheBench();
  const { db, log } = bench.deps;
  const { cache, path } = await withPath(bench);
  const { clock, pauses } = pausingClock();
  const uses = createPathUses({ db, log, clock });
  const touch = (count: number, name: string) => {
    for (let i = 0; i < count; i++) uses.touch(`${cache.id}/${name}${i}`);
  };
  const touchPath = async () => {
    await db
      .updateTable("cache_path")
      .set({ last_used_at: new Date(0) })
      .execute();
    uses.touch(`${cache.id}/${storePathHash(path.storePath)}`);
  };
  const counted = async () =>
    (await db.selectFrom("cache_path").select("fetch_count").executeTakeFirstOrThrow()).fetch_count;
  return {
    bench,
    cacheId: cache.id,
    db,
    uses,
    pauses,
    touch,
    touchPath,
    counted,
    [Symbol.asyncDispose]: () => bench[Symbol.asyncDispose](),
  };
}

test("a flush pauses between its pieces until it is hurried, and never when all counts are wanted", async () => {
  await using used = await withUses();
  const { uses, pauses, touch, touchPath, counted } = used;
  touch(500, "a");
  await touchPath();
  const hurry = new AbortController();
  const hurried = uses.flush({ hurry: hurry.signal });
  await expect.poll(() => pauses.length).toBe(1);
  pauses[0]?.end();
  await expect.poll(() => pauses.length).toBe(2);
  expect(pauses.map(({ ms }) => ms)).toEqual([1_000, 1_000]);
  expect(await counted()).toBe(0);
  hurry.abort();
  await hurried;
  expect(await counted()).toBe(1);

  touch(500, "a");
  await touchPath();
  await uses.flush({ counts: true });
  expect(await counted()).toBe(2);
  expect(pauses).toHaveLength(2);
});

test("a flush is in pieces of 25 while it pauses, and in larger ones when it is hurried", async () => {
  await using used = await withUses();
  const { db, uses, pauses, touch } = used;
  touch(60, "a");
  const flushed = uses.flush();
  await expect.poll(() => pauses.length).toBe(1);
  pauses[0]?.end();
  await expect.poll(() => pauses.length).toBe(2);
  pauses[1]?.end();
  await flushed;
  expect(pauses).toHaveLength(2);

  const counted = countedQueries(db);
  const hurried = createPathUses({ ...used.bench.deps, db: counted.db });
  for (let i = 0; i < 300; i++) hurried.touch(`${used.cacheId}/b${i}`);
  await hurried.flush({ counts: true });
  // 25, 200 and 75: it is hurried when it has begun.
  expect(counted.count()).toBe(3);
});

test("who hurries hurries what runs already, whoever began it, and writes what came since", async () => {
  await using used = await withUses();
  const { uses, pauses, touch, touchPath, counted } = used;
  touch(500, "a");
  const first = uses.flush();
  await expect.poll(() => pauses.length).toBe(1);
  await touchPath();
  await uses.flush({ counts: true });
  expect(await counted()).toBe(1);
  await first;

  touch(500, "b");
  const second = uses.flush();
  await expect.poll(() => pauses.length).toBe(2);
  await touchPath();
  const hurry = new AbortController();
  const third = uses.flush({ hurry: hurry.signal });
  hurry.abort();
  await Promise.all([second, third]);
  expect(await counted()).toBe(2);
  expect(pauses).toHaveLength(2);
});

test("a flush pauses no more when there is no room for what comes meanwhile", { timeout: 60_000 }, async () => {
  await using used = await withUses();
  const { uses, pauses, touch, touchPath, counted } = used;
  touch(500, "a");
  await touchPath();
  const flushed = uses.flush();
  await expect.poll(() => pauses.length).toBe(1);
  touch(75_001, "b");
  await flushed;
  expect(await counted()).toBe(1);
  expect(pauses).toHaveLength(1);
});

test("a flush that fails on its way loses nothing, and counts nothing twice", async () => {
  await using used = await withUses();
  const { db, uses, pauses, touch, touchPath, counted } = used;
  await touchPath();
  touch(500, "a");
  const failed = uses.flush();
  await expect.poll(() => pauses.length).toBe(1);
  expect(await counted()).toBe(1);
  await touchPath();
  await sql`alter table cache_path rename to away`.execute(db);
  pauses[0]?.end();
  await expect(failed).rejects.toThrow();
  await sql`alter table away rename to cache_path`.execute(db);
  await uses.flush({ counts: true });
  expect(await counted()).toBe(2);
});
