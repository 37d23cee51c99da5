import { expect, test } from "vitest";
import { inTransaction } from "#core/db/transaction.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import { fingerprint, generateKeyPair, parsePublicKey, verify } from "#core/nix/signature.ts";
import { makeSourcePath, parseStorePathBaseName, type StorePath, storePathBaseName } from "#core/nix/store-path.ts";
import { commitPaths } from "#core/services/cache-commit.ts";
import { organizationTargets } from "#core/services/cache-targets.ts";
import { availablePaths, openPath } from "#core/services/paths-availability.ts";
import { type CacheBench, newId, storeFile, type TestCache, withCacheBench } from "./support.ts";

async function rowsOf(bench: CacheBench, cacheId: string) {
  const { db } = bench.deps;
  return await db.selectFrom("cache_path").selectAll().where("cache_id", "=", cacheId).orderBy("store_path").execute();
}

async function namesIn(bench: CacheBench, cacheId: string): Promise<string[]> {
  return (await rowsOf(bench, cacheId)).map((row) => row.store_path.slice(33)).sort();
}

function withReferences<T extends { storePath: StorePath }>(path: T, ...references: readonly StorePath[]): T {
  return { ...path, references };
}

async function expectSignedBy(bench: CacheBench, cache: TestCache): Promise<void> {
  const key = parsePublicKey(cache.publicKey);
  const rows = await rowsOf(bench, cache.id);
  expect(rows.length).toBeGreaterThan(0);
  for (const row of rows) {
    const nar = await bench.deps.db
      .selectFrom("nar")
      .selectAll()
      .where("nar_hash", "=", row.nar_hash)
      .executeTakeFirstOrThrow();
    const facts = {
      storePath: parseStorePathBaseName(row.store_path) as StorePath,
      narHash: { algorithm: "sha256" as const, digest: new Uint8Array(row.nar_hash) },
      narSize: nar.nar_size,
      references: row.references.map((name) => parseStorePathBaseName(name) as StorePath),
    };
    const own = row.signatures.filter((signature) => signature.startsWith(`${key?.name}:`));
    expect(own).toHaveLength(1);
    expect(key && (await verify(key, fingerprint(facts), own[0] as string))).toBe(true);
  }
}

test("a closure is offered in every cache it goes to, each row signed by that cache's own key", async () => {
  await using bench = await withCacheBench();
  const [one, two] = [await bench.makeCache(), await bench.makeCache()];
  const lib = await storeFile(bench, "lib");
  const app = await storeFile(bench, "app");
  const result = await bench.commit([two.id, one.id], [withReferences(app, lib.storePath, app.storePath), lib]);

  expect(result.added).toHaveLength(4);
  for (const cache of [one, two]) {
    expect(await namesIn(bench, cache.id)).toEqual(["app", "lib"]);
    await expectSignedBy(bench, cache);
  }
});

test("a path whose reference is nowhere is refused by name, and nothing of the commit stays", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const [missing, app, other] = await Promise.all(["missing", "app", "other"].map((name) => storeFile(bench, name)));
  if (!missing || !app || !other) throw new Error("three were made");
  const commit = bench.commit([cache.id], [other, withReferences(app, missing.storePath)]);

  await expect(commit).rejects.toMatchObject({ code: "unprocessable_entity" });
  await expect(commit).rejects.toThrow(missing.storePath);
  expect(await rowsOf(bench, cache.id)).toEqual([]);
});

test("a path whose NAR is not stored, or is damaged, is refused", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const path = await storeFile(bench, "path");
  await bench.deps.db.updateTable("nar").set({ damaged_at: new Date() }).execute();
  await expect(bench.commit([cache.id], [path])).rejects.toMatchObject({ code: "conflict" });
  await bench.deps.db.deleteFrom("nar").execute();
  await expect(bench.commit([cache.id], [path])).rejects.toMatchObject({ code: "conflict" });
  expect(await rowsOf(bench, cache.id)).toEqual([]);
});

test("a path that is there already stays as it is, and a rebuild that differs never overwrites it", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const [first, rebuild] = [await storeFile(bench, "first"), await storeFile(bench, "rebuild")];
  await bench.commit([cache.id], [first]);
  const before = await rowsOf(bench, cache.id);

  const again = await bench.commit([cache.id], [first]);
  expect(again).toEqual({ added: [], promoted: [], differing: [], changed: [] });
  const differing = await bench.commit([cache.id], [{ ...rebuild, storePath: first.storePath }]);
  expect(differing.added).toEqual([]);
  expect(differing.differing).toEqual([{ cacheId: cache.id, storePath: first.storePath, narHash: first.narHash }]);
  expect(await rowsOf(bench, cache.id)).toEqual(before);
});

test("a path whose NAR was damaged is replaced by one that is whole", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const [first, rebuild] = [await storeFile(bench, "first"), await storeFile(bench, "rebuild")];
  await bench.commit([cache.id], [first]);
  const damaged = bench.deps.db.updateTable("nar").set({ damaged_at: new Date() });
  await damaged.where("nar_hash", "=", first.narHash.digest).execute();

  const result = await bench.commit([cache.id], [{ ...rebuild, storePath: first.storePath }]);
  expect(result.added).toEqual([{ cacheId: cache.id, storePath: first.storePath }]);
  expect(result.changed).toHaveLength(1);
  expect((await rowsOf(bench, cache.id))[0]?.nar_hash).toEqual(rebuild.narHash.digest);
  await expectSignedBy(bench, cache);
});

test("a row without the cache's signature gets it, over the references the row has", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const [lib, app] = [await storeFile(bench, "lib"), await storeFile(bench, "app")];
  await bench.commit([cache.id], [lib, withReferences(app, lib.storePath)]);
  await bench.deps.db.updateTable("cache_path").set({ signatures: [] }).execute();

  const result = await bench.commit([cache.id], [lib, { ...app, signatures: ["upstream:AAAA"] }]);
  expect(result.changed).toHaveLength(2);
  await expectSignedBy(bench, cache);
  const row = (await rowsOf(bench, cache.id)).find((one) => one.store_path.endsWith("app"));
  expect(row?.references).toEqual([storePathBaseName(lib.storePath)]);
  expect(row?.signatures).toHaveLength(1);
});

test("however often a path is pushed with other signatures, its narinfo can be read", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const path = await storeFile(bench, "path");
  for (const push of ["first", "second", "third"]) {
    const signatures = Array.from({ length: 32 }, (_, index) => `${push}-${index}:AAAA`);
    await bench.commit([cache.id], [{ ...path, signatures }]);
  }
  const [row] = await rowsOf(bench, cache.id);
  expect(row?.signatures).toHaveLength(48);
  expect(row?.signatures).toContain("first-31:AAAA");
  await expectSignedBy(bench, cache);
});

test("references that only another store of the organization holds come along with their closure", async () => {
  await using bench = await withCacheBench();
  const organization = await bench.makeOrganization();
  const internal = await bench.makeInternalStore(organization);
  const [target, upstream] = [await bench.makeCache(), await bench.makeCache()];
  await bench.subscribe(organization, target.id, 0);
  await bench.subscribe(organization, upstream.id, 1);
  const [source, base, lib, app] = await Promise.all(["source", "base", "lib", "app"].map((n) => storeFile(bench, n)));
  if (!source || !base || !lib || !app) throw new Error("four were made");
  await bench.commit([internal], [source]);
  await bench.commit([upstream.id], [base, withReferences(lib, base.storePath, lib.storePath)]);

  const commit = withReferences(app, lib.storePath, source.storePath);
  const result = await bench.commit([target.id], [commit], organization);
  expect(result.added.map((path) => path.storePath)).toEqual([app.storePath]);
  expect(result.promoted.map((path) => path.storePath.slice(44)).sort()).toEqual(["base", "lib", "source"]);
  expect(await namesIn(bench, target.id)).toEqual(["app", "base", "lib", "source"]);
  await expectSignedBy(bench, target);
  expect(await bench.objectFiles()).toHaveLength(4);
});

test("nothing is promoted from a cache that the organization does not read", async () => {
  await using bench = await withCacheBench();
  const [organization, stranger] = [await bench.makeOrganization(), await bench.makeOrganization()];
  const strangersStore = await bench.makeInternalStore(stranger);
  const [target, writeOnly, unrelated] = [await bench.makeCache(), await bench.makeCache(), await bench.makeCache()];
  const inactive = await bench.makeCache({ active: false });
  await bench.subscribe(organization, target.id, 0);
  await bench.subscribe(organization, writeOnly.id, 2);
  await bench.subscribe(organization, inactive.id, 0);
  await bench.subscribe(stranger, unrelated.id, 0);
  const [lib, app] = [await storeFile(bench, "lib"), await storeFile(bench, "app")];
  for (const hidden of [strangersStore, writeOnly.id, unrelated.id, inactive.id]) {
    await bench.commit([hidden], [lib]);
    const commit = bench.commit([target.id], [withReferences(app, lib.storePath)], organization);
    await expect(commit, hidden).rejects.toMatchObject({ code: "unprocessable_entity" });
  }
  expect(await availablePaths(bench.deps.db, organization, [lib.storePath])).toEqual(new Map());
  expect(await openPath(bench.deps, organization, lib.storePath)).toBeNull();
});

test("an organization reads and writes the caches its subscriptions say", async () => {
  await using bench = await withCacheBench();
  const organization = await bench.makeOrganization();
  const internal = await bench.makeInternalStore(organization);
  const caches: TestCache[] = [];
  for (const mode of [0, 1, 2]) {
    const cache = await bench.makeCache();
    await bench.subscribe(organization, cache.id, mode);
    caches.push(cache);
  }
  const inactive = await bench.makeCache({ active: false });
  await bench.subscribe(organization, inactive.id, 0);
  const [both, readOnly, writeOnly] = caches.map((cache) => cache.id);

  expect(await organizationTargets(bench.deps.db, organization)).toEqual({
    writable: [both, writeOnly],
    readable: [internal, both, readOnly],
    internal,
  });
  expect(await organizationTargets(bench.deps.db, newId())).toEqual({ writable: [], readable: [], internal: null });
});

test("a worker is told what is available and gets its bytes, from the first store that is whole", async () => {
  await using bench = await withCacheBench();
  const organization = await bench.makeOrganization();
  const internal = await bench.makeInternalStore(organization);
  const cache = await bench.makeCache();
  await bench.subscribe(organization, cache.id, 1);
  const [both, one, none, rebuild] = await Promise.all(["both", "one", "none", "b"].map((n) => storeFile(bench, n)));
  if (!both || !one || !none || !rebuild) throw new Error("four were made");
  await bench.commit([internal], [{ ...rebuild, storePath: both.storePath }]);
  await bench.commit([cache.id], [both, one]);

  const asked = [both.storePath, one.storePath, none.storePath];
  const available = await availablePaths(bench.deps.db, organization, asked);
  expect(available).toEqual(
    new Map([
      [both.storePath, internal],
      [one.storePath, cache.id],
    ]),
  );
  const first = await openPath(bench.deps, organization, both.storePath);
  expect(first?.info.narHash).toEqual(rebuild.narHash);
  expect(await collect(first?.body ?? streamOf(), 1_000_000)).toHaveLength(first?.fileSize ?? -1);

  await bench.deps.blobs.delete(rebuild.nar.objectKey);
  const second = await openPath(bench.deps, organization, both.storePath);
  expect(second?.info.narHash).toEqual(both.narHash);
  await collect(second?.body ?? streamOf(), 1_000_000);
  expect((await availablePaths(bench.deps.db, organization, asked)).get(both.storePath)).toBe(cache.id);
  expect(await openPath(bench.deps, organization, none.storePath)).toBeNull();
});

test("commits of the same paths at the same time end in one row each and never lock each other out", async () => {
  await using bench = await withCacheBench();
  const { db } = bench.deps;
  const caches = [await bench.makeCache(), await bench.makeCache()].map((cache) => cache.id);
  const stored = await storeFile(bench, "path");
  const names = Array.from({ length: 700 }, (_, index) => `path-${index}`);
  const named = names.map(async (name) => ({
    ...stored,
    storePath: await makeSourcePath(name, stored.narHash.digest, []),
  }));
  const paths = await Promise.all(named);
  const { secretKey } = await generateKeyPair("test-1");
  // All have begun before one writes; two statements a cache hold what the others want next.
  let waiting = 4;
  const begun = Promise.withResolvers<void>();
  const secretKeyOf = async () => {
    if (--waiting === 0) begun.resolve();
    await begun.promise;
    return secretKey;
  };
  const results = await Promise.all(
    Array.from({ length: 4 }, (_, turn) => {
      const cacheIds = turn % 2 ? caches : caches.toReversed();
      const commit = { cacheIds, organizationId: null, paths: turn % 2 ? paths : paths.toReversed() };
      // Without the help of `inTransaction`, which runs a transaction that lost to a deadlock again.
      return db.transaction().execute((trx) => commitPaths(trx, { secretKeyOf }, commit));
    }),
  );
  expect(results.flatMap((result) => result.added)).toHaveLength(1_400);
  expect(results.flatMap((result) => result.differing)).toEqual([]);
});

test("a NAR cannot be taken out of service under a commit that has begun to rest on it", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const { db } = bench.deps;
  const [lib, app] = [await storeFile(bench, "lib"), await storeFile(bench, "app")];
  await bench.commit([cache.id], [lib]);
  let marked = false;
  let marking: Promise<unknown> = Promise.resolve();
  const secretKeyOf = async () => {
    // The commit has looked at the reference and now signs.
    marking = db
      .updateTable("nar")
      .set({ damaged_at: new Date() })
      .where("nar_hash", "=", lib.narHash.digest)
      .execute()
      .then(() => {
        marked = true;
      });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(marked).toBe(false);
    return (await generateKeyPair("test-1")).secretKey;
  };
  await inTransaction(db, (trx) =>
    commitPaths(
      trx,
      { secretKeyOf },
      { cacheIds: [cache.id], organizationId: null, paths: [withReferences(app, lib.storePath)] },
    ),
  );
  await marking;
  expect(marked).toBe(true);
});

test("what could end a line of a narinfo is refused", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const path = await storeFile(bench, "path");
  const wrong = ["a:b\nCA: c", ":nameless", "bodiless:", "a b:c", "neither", ""];
  for (const fields of [{ ca: "fixed:x\nSig: a:b" }, ...wrong.map((signature) => ({ signatures: [signature] }))]) {
    await expect(bench.commit([cache.id], [{ ...path, ...fields }])).rejects.toMatchObject({ code: "validation" });
  }
  await expect(bench.commit([cache.id], [path, path])).rejects.toMatchObject({ code: "validation" });
  await expect(bench.commit([newId()], [path])).rejects.toMatchObject({ code: "not_found" });
});
