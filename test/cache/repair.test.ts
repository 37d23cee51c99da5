import { zstdCompressSync } from "node:zlib";
import { sql, type Transaction } from "kysely";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type DamagedNar, findDamagedNar, readIntegrityCounts } from "#core/db/nar-repairs.ts";
import type { Database } from "#core/db/schema.ts";
import { repairPauseMs } from "#core/domain/nar-health.ts";
import { type Bytes, fromUtf8 } from "#core/lib/bytes.ts";
import { HOUR, MINUTE } from "#core/lib/clock.ts";
import { streamOf } from "#core/lib/streams.ts";
import { storePathHash } from "#core/nix/store-path.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { receiveNar } from "#core/services/nar-receive.ts";
import { withholdReferrers } from "#core/services/nar-referrers.ts";
import { type NarRepairDeps, repairFromWorker, repairNar } from "#core/services/nar-repair.ts";
import { repairDue } from "#core/services/nar-repairs.ts";
import { unmarkComplete } from "#core/services/upstream-losses.ts";
import { Upstreams } from "#core/services/upstreams.ts";
import { type HarmableStore, hurriedClock, memoryStore } from "./damage.ts";
import { type FakeUpstream, type Offered, type UpstreamFile, withFakeUpstream } from "./fake-upstream.ts";
import {
  bodyOf,
  type CacheBench,
  compressed,
  fileNar,
  newId,
  randomContent,
  type StoredPath,
  storeFile,
  type TestCache,
  withCacheBench,
} from "./support.ts";

let bench: CacheBench;
let cache: TestCache;
let store: HarmableStore;
let deps: NarRepairDeps;
let upstream: FakeUpstream;
beforeAll(async () => {
  bench = await withCacheBench();
  upstream = await withFakeUpstream();
});
afterAll(async () => {
  await upstream[Symbol.asyncDispose]();
  await bench[Symbol.asyncDispose]();
});
beforeEach(async () => {
  const { db } = bench.deps;
  await sql`truncate nar, nar_file, cache_path, nar_damage, integrity_count cascade`.execute(db);
  await sql`truncate cache_upstream, upstream_path cascade`.execute(db);
  cache = await bench.makeCache();
  store = memoryStore();
  const common = { ...bench.deps, blobs: store.blobs, clock: hurriedClock };
  deps = { ...common, upstreams: new Upstreams(common) };
  upstream.files.clear();
});

const never = new AbortController().signal;

async function offer(name: string, references: readonly StoredPath[] = []): Promise<Offered> {
  const content = randomContent(200_000);
  const path = await storeFile({ deps }, name, { content, references: references.map(({ storePath }) => storePath) });
  await bench.commit([cache.id], [path]);
  return { ...path, bytes: await fileNar(content) };
}

/** Harms the object and has it found. */
async function damage(path: StoredPath, harm: "flip" | "cut" | "delete" = "flip"): Promise<void> {
  await store.harm(path.nar.objectKey, harm);
  const answers = bench.surface(store);
  const url = `http://localhost/cache/${cache.name}/${(await narInfoText(path)).url}`;
  const answer = (await answers(new Request(url))) as Response;
  if (answer.status === 200) await expect(bodyOf(answer)).rejects.toThrow();
  await expect.poll(() => narInfoStatus(path)).toBe(404);
}

async function narInfoText(path: StoredPath): Promise<{ status: number; url: string; text: string }> {
  const url = `http://localhost/cache/${cache.name}/${storePathHash(path.storePath)}.narinfo`;
  const answer = (await bench.surface(store)(new Request(url))) as Response;
  const text = answer.status === 200 ? fromUtf8(await bodyOf(answer)) : "";
  return { status: answer.status, url: /^URL: (.*)$/m.exec(text)?.[1] ?? "", text };
}

async function narInfoStatus(path: StoredPath): Promise<number> {
  return (await narInfoText(path)).status;
}

/** Fetches the file that the narinfo names, and unpacks it. */
async function served(path: StoredPath): Promise<Bytes> {
  const { url } = await narInfoText(path);
  const answer = (await bench.surface(store)(new Request(`http://localhost/cache/${cache.name}/${url}`))) as Response;
  const file = await bodyOf(answer);
  const parts: Uint8Array[] = [];
  for await (const part of deps.codec.decompress("zstd", streamOf(file)) ?? []) parts.push(part.slice());
  return new Uint8Array(Buffer.concat(parts));
}

async function repair(path: StoredPath, by: NarRepairDeps = deps) {
  const row = await findDamagedNar(by.db, path.narHash.digest);
  if (!row) throw new Error("it is not damaged");
  return await repairNar(by, row);
}

async function addUpstream(): Promise<void> {
  const row = { id: newId(), cache_id: cache.id, kind: 2, display_name: "Other", url: upstream.url };
  await bench.deps.db
    .insertInto("cache_upstream")
    .values({ ...row, public_keys: [upstream.publicKey] })
    .execute();
}

/** Nothing is stored that no row names, and everything that a row names is. */
async function expectNoLeak(): Promise<void> {
  const rows = await deps.db.selectFrom("nar").select("object_key").execute();
  expect((await store.keys()).sort()).toEqual(rows.map(({ object_key }) => object_key).sort());
}

describe("a damaged NAR comes back", () => {
  test("when its object is right again: the storage was away, or was misread", async () => {
    const path = await offer("a");
    const bytes = await store.bytes(path.nar.objectKey);
    const before = (await narInfoText(path)).text;
    await damage(path, "delete");
    await store.putBack(path.nar.objectKey, bytes);

    expect(await repair(path)).toEqual({ healedBy: "storage" });

    expect((await narInfoText(path)).text).toBe(before);
    expect(await served(path)).toEqual(path.bytes);
    await expectNoLeak();
  });

  test.each(["flip", "cut", "delete"] as const)("from an upstream that has the same one (%s)", async (harm) => {
    const path = await offer("a");
    await addUpstream();
    await upstream.add(path);
    const before = (await narInfoText(path)).text;
    await damage(path, harm);

    expect(await repair(path)).toEqual({ healedBy: "upstream" });

    expect(await served(path)).toEqual(path.bytes);
    // All but the file's own name, size and hash: those are of another compression.
    const stable = (text: string) => text.replaceAll(/^(URL|FileHash|FileSize): .*$/gm, "");
    expect(stable((await narInfoText(path)).text)).toBe(stable(before));
    expect(await readIntegrityCounts(deps.db)).toMatchObject({ repaired_upstream: 1 });
    await expectNoLeak();
  });

  test("from a worker, and what a worker sends counts only when it is the very NAR", async () => {
    const path = await offer("a");
    await damage(path);
    const { narHash } = path;
    const narSize = path.bytes.length;
    const wrong = path.bytes.map((byte, index) => (index === path.bytes.length - 200 ? byte ^ 1 : byte));
    const send = async (bytes: Bytes) =>
      await repairFromWorker(
        deps,
        { narHash, narSize },
        { compression: "zstd", body: streamOf(await compressed(bytes)) },
      );

    await expect(send(wrong)).rejects.toThrow("announced was");
    expect(await narInfoStatus(path)).toBe(404);
    expect(await send(path.bytes)).toBe(true);

    expect(await served(path)).toEqual(path.bytes);
    expect(await readIntegrityCounts(deps.db)).toMatchObject({ repaired_worker: 1 });
    await expectNoLeak();
  });

  test("from the next push", async () => {
    const path = await offer("a");
    await damage(path);

    const upload = { narHash: path.narHash, narSize: path.bytes.length, compression: "none" } as const;
    await receiveNar(deps, { ...upload, body: streamOf(path.bytes) });

    expect(await served(path)).toEqual(path.bytes);
    expect(await readIntegrityCounts(deps.db)).toMatchObject({ repaired_push: 1 });
    await expectNoLeak();
  });

  test("under the names that were given out before, too", async () => {
    const path = await offer("a");
    const { url: old } = await narInfoText(path);
    await damage(path, "delete");
    const body = streamOf(zstdCompressSync(path.bytes));
    await repairFromWorker(deps, { narHash: path.narHash, narSize: path.bytes.length }, { compression: "zstd", body });

    const { url } = await narInfoText(path);
    expect(url).not.toBe(old);
    for (const name of [old, url]) {
      const answer = (await bench.surface(store)(
        new Request(`http://localhost/cache/${cache.name}/${name}`),
      )) as Response;
      expect(await unpack(await bodyOf(answer))).toEqual(Buffer.from(path.bytes));
    }
  });
});

describe("an upstream brings nothing back", () => {
  test.each<[string, Partial<UpstreamFile>, RegExp]>([
    ["that has another build of the path", { other: true }, /another build/],
    ["that sends other bytes than it signed", { flip: true }, /hash|zstd|read/],
    ["that breaks off", { cut: true }, /./],
    ["that answers with an error", { status: 500 }, /./],
    ["that says it has it no more", { status: 404 }, /no upstream has/],
  ])("%s", async (_, fault, problem) => {
    const path = await offer("a");
    await addUpstream();
    await upstream.add(path, fault);
    await damage(path);

    expect(await repair(path)).toEqual({ problem: expect.stringMatching(problem) });

    expect(await narInfoStatus(path)).toBe(404);
    await expectNoLeak();
    const row = await deps.db.selectFrom("nar_damage").selectAll().executeTakeFirstOrThrow();
    expect(row).toMatchObject({ attempts: 1, healed_at: null, problem: expect.stringMatching(problem) });
  });
});

test("what cannot be repaired is tried again, ever more seldom, and holds up nothing else", async () => {
  const [hopeless, other] = [await offer("hopeless"), await offer("other")];
  await addUpstream();
  await upstream.add(other);
  for (const path of [hopeless, other]) await damage(path, "delete");

  await repairDue(deps, never);
  expect([await narInfoStatus(hopeless), await narInfoStatus(other)]).toEqual([404, 200]);
  await repairDue(deps, never);
  expect((await findDamagedNar(deps.db, hopeless.narHash.digest))?.attempts).toBe(1);

  await sql`update nar_damage set retry_at = gradient_now()`.execute(deps.db);
  await upstream.add(hopeless);
  // What an upstream said is remembered for an hour.
  await sql`delete from upstream_path`.execute(deps.db);
  await repairDue(deps, never);
  expect(await served(hopeless)).toEqual(hopeless.bytes);
  expect([1, 2, 3, 11, 1_000].map(repairPauseMs)).toEqual([MINUTE, 2 * MINUTE, 4 * MINUTE, 12 * HOUR, 12 * HOUR]);
});

test("a storage that fails at everything is waited for", async () => {
  const path = await offer("a");
  await damage(path);
  const failing = () => Promise.reject(new Error("EIO"));
  const blobs: BlobStore = { ...store.blobs, get: failing, put: failing };
  await addUpstream();
  await upstream.add(path);

  await repairDue({ ...deps, blobs }, never);

  const problem = (await deps.db.selectFrom("nar_damage").selectAll().executeTakeFirstOrThrow()).problem;
  expect(problem).toMatch(/cannot be read: EIO/);
});

test("what refers to a damaged path is not offered until it is back, and neither is what refers to that", async () => {
  const lib = await offer("lib");
  const app = await offer("app", [lib]);
  const system = await offer("system", [app]);
  const apart = await offer("apart");
  const all = [lib, app, system, apart];
  const offered = async () => await Promise.all(all.map((path) => narInfoStatus(path)));
  await damage(lib);
  expect(await offered()).toEqual([404, 200, 200, 200]);

  expect(await withholdReferrers(deps)).toBe(2);
  expect(await offered()).toEqual([404, 404, 404, 200]);
  expect(await withholdReferrers(deps)).toBe(0);

  const upload = { narHash: lib.narHash, narSize: lib.bytes.length, compression: "none" } as const;
  await receiveNar(deps, { ...upload, body: streamOf(lib.bytes) });
  await unmarkComplete(deps);
  expect(await offered()).toEqual([200, 200, 200, 200]);
});

describe("at the same time", () => {
  const PATHS = 6;

  test("repairs, pushes, removals and readers leave whole NARs or none, and nothing besides", async () => {
    await addUpstream();
    const paths = await Promise.all(Array.from({ length: PATHS }, (_, n) => offer(`p${n}`)));
    for (const path of paths) {
      await upstream.add(path);
      await damage(path);
    }
    const removed = paths.slice(0, 2);
    const surface = bench.surface(store);
    let reading = true;
    const wrong: string[] = [];
    const read = async () => {
      while (reading) {
        for (const path of paths) {
          const { status, url } = await narInfoText(path);
          if (status !== 200) continue;
          const answer = (await surface(new Request(`http://localhost/cache/${cache.name}/${url}`))) as Response;
          // What goes away meanwhile is cut off or not there; what is whole is right.
          const file = answer.status === 200 ? await bodyOf(answer).catch(() => null) : null;
          if (!file) continue;
          const nar = await unpack(file);
          if (Buffer.compare(nar, path.bytes) !== 0) wrong.push(path.storePath);
        }
        await new Promise(setImmediate);
      }
    };
    const reader = read();
    const push = async (path: Offered) => {
      const upload = { narHash: path.narHash, narSize: path.bytes.length, compression: "none" } as const;
      await receiveNar(deps, { ...upload, body: streamOf(path.bytes) });
    };
    const remove = async (path: Offered) => {
      // As retention does: rows first, and then the object that the row named when it went.
      const row = await deps.db.transaction().execute(async (trx) => {
        await trx.deleteFrom("cache_path").where("nar_hash", "=", path.narHash.digest).execute();
        return await trx
          .deleteFrom("nar")
          .where("nar_hash", "=", path.narHash.digest)
          .returning("object_key")
          .executeTakeFirst();
      });
      if (row) await store.blobs.delete(row.object_key);
    };
    const tasks = paths.flatMap((path) => [
      () => repair(path).catch(() => {}),
      () => repair(path).catch(() => {}),
      ...(removed.includes(path) ? [() => remove(path)] : [() => push(path)]),
    ]);
    await Promise.all(shuffled(tasks).map((task) => task()));
    reading = false;
    await reader;

    expect(wrong).toEqual([]);
    for (const path of paths) {
      if (removed.includes(path)) expect(await narInfoStatus(path)).toBe(404);
      else expect(await served(path)).toEqual(path.bytes);
    }
    await expectNoLeak();
    const open = await deps.db.selectFrom("nar_damage").selectAll().where("healed_at", "is", null).execute();
    const kept = new Set((await deps.db.selectFrom("nar").selectAll().execute()).map(({ object_key }) => object_key));
    expect(open.filter(({ object_key }) => kept.has(object_key))).toEqual([]);
  });

  test("many repairs of one NAR replace its object once", async () => {
    const path = await offer("a");
    await addUpstream();
    await upstream.add(path);
    await damage(path);

    const row = await findDamagedNar(deps.db, path.narHash.digest);
    const outcomes = await Promise.all(Array.from({ length: 4 }, () => repairNar(deps, row as DamagedNar)));

    const healers = outcomes.map((outcome) => ("healedBy" in outcome ? outcome.healedBy : outcome.problem));
    expect(healers.sort()).toEqual(["settled", "settled", "settled", "upstream"]);
    expect(await served(path)).toEqual(path.bytes);
    await expectNoLeak();
  });

  test("a NAR that is removed while it is repaired stays removed, and what was stored for it goes", async () => {
    const path = await offer("a");
    await addUpstream();
    await upstream.add(path);
    await damage(path);
    const put: BlobStore["put"] = async (key, body) => {
      const size = await store.blobs.put(key, body);
      await deps.db.deleteFrom("cache_path").where("nar_hash", "=", path.narHash.digest).execute();
      await deps.db.deleteFrom("nar").where("nar_hash", "=", path.narHash.digest).execute();
      await store.blobs.delete(path.nar.objectKey);
      return size;
    };

    expect(await repair(path, { ...deps, blobs: { ...store.blobs, put } })).toEqual({ healedBy: "settled" });

    await expectNoLeak();
    expect(await deps.db.selectFrom("nar").selectAll().execute()).toEqual([]);
  });
});

/** Where a process may die: each is the last thing that happens. */
type Death = "while the object is written" | "before the commit" | "after the commit" | "before the old object goes";

test.each<[Death, { swapped: boolean; left: number }]>([
  ["while the object is written", { swapped: false, left: 0 }],
  ["before the commit", { swapped: false, left: 1 }],
  ["after the commit", { swapped: true, left: 1 }],
  ["before the old object goes", { swapped: true, left: 1 }],
])("a repair that dies %s leaves nothing wrong, and the next one ends it", async (death, { swapped, left }) => {
  const path = await offer("a");
  await addUpstream();
  await upstream.add(path);
  await damage(path);
  const dying = dyingDeps(death);

  await repair(path, dying.deps).catch(() => {});

  expect(dying.isDead()).toBe(true);
  expect(await narInfoStatus(path)).toBe(swapped ? 200 : 404);
  await repairDue(deps, never);
  expect(await served(path)).toEqual(path.bytes);
  // What no row names is left to the sweep of such objects.
  const named = (await deps.db.selectFrom("nar").select("object_key").execute()).map(({ object_key }) => object_key);
  const keys = await store.keys();
  expect(keys).toEqual(expect.arrayContaining(named));
  expect(keys.length - named.length).toBe(left);
});

/** From its death on nothing reaches the store or the database. */
function dyingDeps(death: Death): { deps: NarRepairDeps; isDead: () => boolean } {
  let dead = false;
  const die = (): never => {
    dead = true;
    throw new Error("died");
  };
  async function* brokenOff(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const part of body) {
      yield part;
      die();
    }
  }
  const blobs: BlobStore = {
    ...store.blobs,
    put: (key, body) =>
      dead ? die() : store.blobs.put(key, death === "while the object is written" ? brokenOff(body) : body),
    delete: async (key) => (dead || death === "before the old object goes" ? die() : await store.blobs.delete(key)),
  };
  const db = new Proxy(deps.db, {
    get(target, name) {
      if (dead) return die;
      if (name !== "transaction") {
        const value: unknown = Reflect.get(target, name);
        return typeof value === "function" ? value.bind(target) : value;
      }
      const execute = async (body: (trx: Transaction<Database>) => Promise<unknown>) => {
        const result = await target.transaction().execute(async (trx) => {
          const made = await body(trx);
          return death === "before the commit" ? die() : made;
        });
        return death === "after the commit" ? die() : result;
      };
      return () => ({ execute });
    },
  });
  return { deps: { ...deps, blobs, db }, isDead: () => dead };
}

async function unpack(file: Bytes): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of deps.codec.decompress("zstd", streamOf(file)) ?? []) parts.push(part.slice());
  return Buffer.concat(parts);
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}
