import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { readIntegrityCounts } from "#core/db/nar-repairs.ts";
import { readRowPass } from "#core/db/scrub-rows.ts";
import { fromUtf8, toHex } from "#core/lib/bytes.ts";
import { DAY } from "#core/lib/clock.ts";
import { Pace } from "#core/lib/pace.ts";
import { storePathHash } from "#core/nix/store-path.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { createNarProofs } from "#core/services/nar-proofs.ts";
import type { NarReceiveDeps } from "#core/services/nar-receive.ts";
import { StorageFailedError } from "#core/services/right-store.ts";
import { msUntilScrub, type ScrubDeps, scrubDue, verifyAndRecord } from "#core/services/scrub.ts";
import { scrubRows, scrubRowsDaily } from "#core/services/scrub-rows.ts";
import { diskStore, type Harm, type HarmableStore, hurriedClock, memoryStore } from "./damage.ts";
import {
  bodyOf,
  type CacheBench,
  randomContent,
  type StoredPath,
  storeFile,
  type TestCache,
  withCacheBench,
} from "./support.ts";

let bench: CacheBench;
let cache: TestCache;
beforeAll(async () => {
  bench = await withCacheBench();
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  await sql`truncate nar, nar_file, cache_path, nar_damage, integrity_count cascade`.execute(bench.deps.db);
  await sql`update scrub_state set rows_after = null, rows_finished_at = null`.execute(bench.deps.db);
  cache = await bench.makeCache();
});

const MONTH = 30 * DAY;
const never = new AbortController().signal;

function over(store: Pick<HarmableStore, "blobs">): NarReceiveDeps & ScrubDeps {
  return { ...bench.deps, ...store, clock: hurriedClock };
}

/** Stores a file that the cache offers. */
async function offer(deps: NarReceiveDeps, name: string, content = randomContent(300_000)): Promise<StoredPath> {
  const path = await storeFile({ deps }, name, { content });
  await bench.commit([cache.id], [path]);
  return path;
}

async function age(path: StoredPath, days: number): Promise<void> {
  const old = sql<Date>`gradient_now() - ${days} * interval '1 day'`;
  await bench.deps.db
    .updateTable("nar")
    .set({ verified_at: old, unpacked_at: old })
    .where("object_key", "=", path.nar.objectKey)
    .execute();
}

function scrub(deps: ScrubDeps, signal = never, pace = new Pace(hurriedClock, Number.POSITIVE_INFINITY)) {
  return scrubDue(deps, { pace, intervalMs: MONTH }, signal);
}

async function narInfo(path: StoredPath, store: Pick<HarmableStore, "blobs">): Promise<number> {
  const url = `http://localhost/cache/${cache.name}/${storePathHash(path.storePath)}.narinfo`;
  return (await bench.surface(store)(new Request(url)))?.status ?? 0;
}

async function damages(): Promise<{ object_key: string; fault: string }[]> {
  return await bench.deps.db.selectFrom("nar_damage").select(["object_key", "fault"]).orderBy("id").execute();
}

const verifiedDaysAgo = async (): Promise<Record<string, number>> => {
  const rows = await bench.deps.db
    .selectFrom("nar")
    .select(["object_key", sql<number>`extract(day from gradient_now() - verified_at)::int`.as("days")])
    .execute();
  return Object.fromEntries(rows.map(({ object_key, days }) => [object_key, days]));
};

const stores: Record<string, () => HarmableStore> = { disk: () => diskStore(bench), memory: memoryStore };
const harms: [Harm, string][] = [
  ["flip", "file_hash"],
  ["cut", "size"],
  ["delete", "missing"],
];
/** After 120 days NARs are unpacked, too. */
const ages = harms.flatMap(([harm, fault]) => [31, 130].map((days) => [harm, fault, days] as const));

for (const [storeName, open] of Object.entries(stores)) {
  test.each(ages)(
    `an object that was harmed (%s) on ${storeName} is out of service after a scrub (%s, %i days)`,
    async (harm, fault, days) => {
      const store = open();
      const deps = over(store);
      const [sound, harmed] = [await offer(deps, "sound"), await offer(deps, "harmed")];
      for (const path of [sound, harmed]) await age(path, days);
      await store.harm(harmed.nar.objectKey, harm);
      expect(await narInfo(harmed, store)).toBe(200);

      await scrub(deps);

      expect(await narInfo(harmed, store)).toBe(404);
      expect(await narInfo(sound, store)).toBe(200);
      expect(await damages()).toEqual([{ object_key: harmed.nar.objectKey, fault }]);
      expect((await verifiedDaysAgo())[sound.nar.objectKey]).toBe(0);
      const counts = await readIntegrityCounts(bench.deps.db);
      expect(counts).toEqual({ verified: 1, verified_bytes: sound.nar.fileSize, [`damaged_${fault}`]: 1 });
    },
  );

  test.each(harms)(`the next listing finds what it can see on ${storeName} (%s)`, async (harm, fault) => {
    const store = open();
    const deps = over(store);
    const [sound, harmed] = [await offer(deps, "sound"), await offer(deps, "harmed")];
    await store.harm(harmed.nar.objectKey, harm);

    const found = await scrubRows(deps, never);

    const visible = harm !== "flip";
    expect(found).toEqual({ nars: 2, damaged: visible ? 1 : 0 });
    expect(await damages()).toEqual(visible ? [{ object_key: harmed.nar.objectKey, fault }] : []);
    expect(await narInfo(sound, store)).toBe(200);
  });
}

test("what waits longest is verified first, and what was verified lately when it is due", async () => {
  const store = memoryStore();
  const read: string[] = [];
  const get: BlobStore["get"] = (key) => {
    read.push(key);
    return store.blobs.get(key);
  };
  const deps = over({ blobs: { ...store.blobs, get } });
  const [a, b, c] = [await offer(deps, "a"), await offer(deps, "b"), await offer(deps, "c")];
  await age(a, 40);
  await age(b, 50);
  await age(c, 29);

  await scrub(deps);

  expect(read).toEqual([b.nar.objectKey, a.nar.objectKey]);
  const waitMs = await msUntilScrub(deps, MONTH);
  expect(waitMs).toBeGreaterThan(0.99 * DAY);
  expect(waitMs).toBeLessThanOrEqual(DAY);
});

test("a scrub that was stopped goes on where it was", async () => {
  const store = memoryStore();
  const stopping = new AbortController();
  const read: string[] = [];
  const get: BlobStore["get"] = (key) => {
    read.push(key);
    if (read.length === 2) stopping.abort();
    return store.blobs.get(key);
  };
  const deps = over({ blobs: { ...store.blobs, get } });
  const paths = [await offer(deps, "a"), await offer(deps, "b"), await offer(deps, "c")];
  for (const [index, path] of paths.entries()) await age(path, 60 - index);

  await scrub(deps, stopping.signal);
  expect(Object.values(await verifiedDaysAgo()).filter((days) => days === 0)).toHaveLength(1);
  await scrub(deps);

  const keys = paths.map(({ nar }) => nar.objectKey);
  expect(read).toEqual([keys[0], keys[1], keys[1], keys[2]]);
  expect(await damages()).toEqual([]);
});

test("a file is unpacked now and then: one that is as it was stored and yet another NAR is found", async () => {
  const store = memoryStore();
  const deps = over(store);
  const [right, wrong] = [await offer(deps, "right"), await offer(deps, "wrong")];
  // As a mistake when it was stored would have left it.
  await store.putBack(wrong.nar.objectKey, await store.bytes(right.nar.objectKey));
  const { file_hash, file_size } = await bench.deps.db
    .selectFrom("nar")
    .selectAll()
    .where("object_key", "=", right.nar.objectKey)
    .executeTakeFirstOrThrow();
  await bench.deps.db
    .updateTable("nar")
    .set({ file_hash, file_size })
    .where("object_key", "=", wrong.nar.objectKey)
    .execute();
  for (const path of [right, wrong]) await age(path, 31);
  await sql`update nar set unpacked_at = gradient_now() - interval '100 days'`.execute(bench.deps.db);

  await scrub(deps);
  expect(await damages()).toEqual([]);
  await sql`update nar set verified_at = gradient_now() - interval '40 days',
    unpacked_at = gradient_now() - interval '121 days'`.execute(bench.deps.db);
  await scrub(deps);

  expect(await damages()).toEqual([{ object_key: wrong.nar.objectKey, fault: "nar_hash" }]);
});

test("an object that cannot be read while others can is out of service, too", async () => {
  const store = memoryStore();
  const deps = over(store);
  const [sound, bad] = [await offer(deps, "sound"), await offer(deps, "bad")];
  await age(bad, 31);
  const get: BlobStore["get"] = (key, range) =>
    key === bad.nar.objectKey ? Promise.reject(new Error("EIO: i/o error, read")) : store.blobs.get(key, range);

  await scrub({ ...deps, blobs: { ...store.blobs, get } });

  expect(await damages()).toEqual([{ object_key: bad.nar.objectKey, fault: "unreadable" }]);
  expect(await narInfo(sound, store)).toBe(200);
});

test.each<[string, (size: number) => ReturnType<BlobStore["get"]>]>([
  ["fails", () => Promise.reject(new Error("connection refused"))],
  ["never answers", () => new Promise(() => {})],
  ["breaks off", async (size) => ({ size, body: brokenBody(), discard: async () => {} })],
])("a store that %s for everything has lost nothing", async (_, answer) => {
  const store = memoryStore();
  const deps = over(store);
  const paths = [await offer(deps, "a"), await offer(deps, "b")];
  for (const path of paths) await age(path, 31);
  const broken: BlobStore["get"] = (key) => answer(paths.find(({ nar }) => nar.objectKey === key)?.nar.fileSize ?? 0);

  await expect(scrub({ ...deps, blobs: { ...store.blobs, get: broken } })).rejects.toThrow(StorageFailedError);

  expect(await damages()).toEqual([]);
  for (const path of paths) expect(await narInfo(path, store)).toBe(200);
});

async function* brokenBody(): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(10);
  throw new Error("connection reset");
}

test("another store in the place of the right one takes nothing out of service", async () => {
  const store = memoryStore();
  const deps = over(store);
  const paths: StoredPath[] = [];
  for (let n = 0; n < 25; n++) paths.push(await offer(deps, `p${n}`, randomContent(10)));

  const wrong = { ...deps, blobs: memoryStore().blobs };
  await expect(scrubRows(wrong, never)).rejects.toThrow("is the storage mounted");
  await age(paths[7] as StoredPath, 31);
  await expect(scrub(wrong)).rejects.toThrow("is the storage mounted");

  expect(await damages()).toEqual([]);
  // One of those that are looked for is there: so it is the right store, and the others are lost.
  const other = memoryStore();
  const kept = paths.toSorted((a, b) => (toHex(a.narHash.digest) < toHex(b.narHash.digest) ? -1 : 1))[0] as StoredPath;
  await other.putBack(kept.nar.objectKey, await store.bytes(kept.nar.objectKey));
  expect(await scrubRows({ ...deps, blobs: other.blobs }, never)).toEqual({ nars: 25, damaged: 24 });
});

test("a store that goes away while it is compared takes nothing more out of service", async () => {
  const store = memoryStore();
  const paths: StoredPath[] = [];
  for (let n = 0; n < 25; n++) paths.push(await offer(over(store), `p${n}`, randomContent(10)));
  let heads = 0;
  const blobs: BlobStore = {
    ...store.blobs,
    list: async () => ({ objects: [], next: null }),
    head: async (key) => (++heads > 10 ? null : await store.blobs.head(key)),
  };

  await expect(scrubRows(over({ blobs }), never)).rejects.toThrow(StorageFailedError);

  expect(await damages()).toEqual([]);
});

test("the comparison with the store goes by pages, goes on where it was stopped, and is made once a day", async () => {
  const store = memoryStore();
  const stopping = new AbortController();
  const afters: (string | undefined)[] = [];
  const small: BlobStore["list"] = async (prefix, after) => {
    afters.push(after);
    if (afters.length === 2) stopping.abort();
    const { objects } = await store.blobs.list(prefix, after);
    const page = objects.slice(0, 2);
    return { objects: page, next: page.length < objects.length ? (page.at(-1)?.key ?? null) : null };
  };
  const deps = over({ blobs: { ...store.blobs, list: small } });
  for (let n = 0; n < 5; n++) await offer(deps, `p${n}`, randomContent(10));

  expect(await scrubRowsDaily(deps, stopping.signal)).toBeNull();
  expect((await readRowPass(deps.db)).after).toBe((await store.keys())[1]);
  expect(await scrubRowsDaily(deps, never)).toEqual({ nars: 3, damaged: 0 });
  expect(await scrubRowsDaily(deps, never)).toBeNull();

  const keys = await store.keys();
  expect(afters).toEqual([undefined, keys[1], keys[1], keys[3]]);
});

test("what comes and goes while the store is listed is not taken for lost", async () => {
  const store = memoryStore();
  const deps = over(store);
  const gone = await offer(deps, "gone");
  let fresh: StoredPath | null = null;
  const list: BlobStore["list"] = async (prefix, after) => {
    const page = await store.blobs.list(prefix, after);
    fresh = await offer(deps, "fresh");
    // As a sweep deletes: the row first.
    await deps.db.deleteFrom("cache_path").where("store_path", "like", "%-gone").execute();
    await deps.db.deleteFrom("nar").where("object_key", "=", gone.nar.objectKey).execute();
    await store.blobs.delete(gone.nar.objectKey);
    return page;
  };

  expect(await scrubRows({ ...deps, blobs: { ...store.blobs, list } }, never)).toEqual({ nars: 1, damaged: 0 });

  expect(await narInfo(fresh as never, store)).toBe(200);
});

test("a NAR that was replaced or removed while it was read is damaged for nobody", async () => {
  const store = memoryStore();
  const deps = over(store);
  const path = await offer(deps, "a");
  await store.harm(path.nar.objectKey, "flip");
  const get: BlobStore["get"] = async (key) => {
    await sql`update nar set object_key = object_key || '-newer'`.execute(deps.db);
    return await store.blobs.get(key);
  };

  const verified = verifyAndRecord({ ...deps, blobs: { ...store.blobs, get } }, path.nar, {
    unpack: true,
    signal: never,
  });

  expect(await verified).toBeNull();
  expect(await damages()).toEqual([]);
});

test("what was read whole for somebody counts as verified, what was not does not", async () => {
  const store = memoryStore();
  const deps = over(store);
  const [asked, unasked] = [await offer(deps, "asked"), await offer(deps, "unasked")];
  const damaged = await offer(deps, "damaged");
  for (const path of [asked, unasked, damaged]) await age(path, 31);
  await store.harm(damaged.nar.objectKey, "flip");
  const proofs = createNarProofs(deps);
  const surface = bench.surface({ ...store, proofs });
  const fetch = async (path: StoredPath) => {
    const info = await surface(
      new Request(`http://localhost/cache/${cache.name}/${storePathHash(path.storePath)}.narinfo`),
    );
    const url = /^URL: (.*)$/m.exec(fromUtf8(await bodyOf(info as Response)))?.[1];
    const answer = (await surface(new Request(`http://localhost/cache/${cache.name}/${url}`))) as Response;
    await bodyOf(answer);
    return answer.status;
  };
  expect([await fetch(asked), await fetch(damaged)]).toEqual([200, 404]);

  await proofs.flush();

  expect(await verifiedDaysAgo()).toEqual({
    [asked.nar.objectKey]: 0,
    [unasked.nar.objectKey]: 31,
    [damaged.nar.objectKey]: 31,
  });
});

test("a scrub takes no more bytes in a second than it may, however small the files are", async () => {
  const store = memoryStore();
  const deps = over(store);
  const taken: number[] = [];
  const pace = { take: async (bytes: number) => void taken.push(bytes) } as unknown as Pace;
  const [large, small] = [await offer(deps, "large"), await offer(deps, "small", randomContent(100))];
  for (const path of [large, small]) await age(path, 31);

  await scrub(deps, never, pace);

  const sum = taken.reduce((total, bytes) => total + bytes, 0);
  expect(sum).toBe(large.nar.fileSize + 64 * 1024);
  expect(Math.max(...taken)).toBeLessThanOrEqual(256 * 1024);
});

test("what was found is forgotten after a while and stays counted", async () => {
  const store = memoryStore();
  const deps = over(store);
  const content = randomContent(1_000);
  const path = await offer(deps, "a", content);
  await age(path, 31);
  await store.harm(path.nar.objectKey, "flip");
  await scrub(deps);
  await sql`update nar_damage set found_at = gradient_now() - interval '91 days'`.execute(deps.db);
  await scrub(deps);
  expect(await damages()).toHaveLength(1);

  // Sent again.
  await storeFile({ deps }, "a", { content });
  await scrub(deps);

  expect(await damages()).toEqual([]);
  expect(await readIntegrityCounts(deps.db)).toEqual({ damaged_file_hash: 1, repaired_push: 1 });
});
