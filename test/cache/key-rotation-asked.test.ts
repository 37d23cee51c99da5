import { afterAll, beforeAll, expect, test } from "vitest";
import { insertKey, KeyState, lockKeysOfCache, setKeyState } from "#core/db/cache-keys.ts";
import { insertRealisations } from "#core/db/realisations.ts";
import { inTransaction } from "#core/db/transaction.ts";
import { createUpstreamRelay } from "#core/http/upstream-relay.ts";
import { toHex } from "#core/lib/bytes.ts";
import { parseNarInfo } from "#core/nix/narinfo.ts";
import { parseRealisation, realisationFingerprints } from "#core/nix/realisation.ts";
import { fingerprint, generateKeyPair, type PublicKey, parsePublicKey, verify } from "#core/nix/signature.ts";
import { storePathBaseName } from "#core/nix/store-path.ts";
import { sealCacheKey } from "#core/services/cache-key.ts";
import { lookUpRealisation } from "#core/services/cache-realisation.ts";
import { UpstreamRelay } from "#core/services/upstream-relay.ts";
import { type CacheBench, newId, randomContent, type StoredPath, storeFile, withCacheBench } from "./support.ts";

let bench: CacheBench;
let path: StoredPath;
beforeAll(async () => {
  bench = await withCacheBench();
  path = await storeFile(bench, "path");
});
afterAll(() => bench[Symbol.asyncDispose]());

/** A cache with its first key, and with a second one. */
async function rotatedCache() {
  const cache = await bench.makeCache();
  const { secretKey, publicKey } = await generateKeyPair(`${cache.name}-2`);
  const id = newId();
  const key = { id, cache_id: cache.id, ...(await sealCacheKey(bench.deps, id, secretKey)) };
  await inTransaction(bench.deps.db, (trx) => insertKey(trx, key));
  return { ...cache, keys: [parsePublicKey(cache.publicKey) as PublicKey, publicKey] };
}

async function retireFirst({ id }: { readonly id: string }): Promise<void> {
  await inTransaction(bench.deps.db, async (trx) => {
    await lockKeysOfCache(trx, id);
    await setKeyState(trx, id, KeyState.Retiring);
  });
}

/** By key, whether one of the signatures is its own. */
function signedBy(keys: readonly PublicKey[], text: string, signatures: readonly string[]): Promise<boolean[]> {
  return Promise.all(
    keys.map(async (key) => (await Promise.all(signatures.map((one) => verify(key, text, one)))).includes(true)),
  );
}

test("what a cache passes on is signed by all of its keys, and by none that retires", async () => {
  const [cache, source] = [await rotatedCache(), await bench.makeCache()];
  await bench.commit([source.id], [path]);
  const row = { id: newId(), cache_id: cache.id, kind: 0, display_name: "Other", url: null, public_keys: [] };
  await bench.deps.db
    .insertInto("cache_upstream")
    .values({ ...row, upstream_cache_id: source.id })
    .execute();
  const signed = async () => {
    const relay = createUpstreamRelay(new UpstreamRelay({ ...bench.deps, secretKeyOf: bench.secretKeyOf }));
    const url = `http://cache.example.org/cache/${cache.name}/${path.storePath.slice(11, 43)}.narinfo`;
    const answer = await bench.surface({ relay })(new Request(url));
    const info = parseNarInfo((await answer?.text()) ?? "");
    return await signedBy(cache.keys, fingerprint(info), info.signatures);
  };
  expect(await signed()).toEqual([true, true]);
  await retireFirst(cache);
  expect(await signed()).toEqual([false, true]);
});

test("a realisation is signed by all keys, and shows no signature of a retired one", async () => {
  const cache = await rotatedCache();
  await bench.commit([cache.id], [path]);
  const key = { hash: toHex(randomContent(32)), output: "out" };
  const signatures = [`${cache.keys[0]?.name}:Zm9yZ2Vk`, "other-1:c2ln"];
  const row = { ...key, store_path: storePathBaseName(path.storePath), dependents: [], signatures };
  await inTransaction(bench.deps.db, (trx) => insertRealisations(trx, [cache.id], [row]));
  const asked = async () => {
    const deps = { db: bench.deps.db, secretKeyOf: bench.secretKeyOf };
    const found = parseRealisation((await lookUpRealisation(deps, cache.id, key)) ?? "");
    if (!found) throw new Error("it is there");
    expect(found.signatures).toContain("other-1:c2ln");
    expect(found.signatures).not.toContain(signatures[0]);
    return await signedBy(cache.keys, realisationFingerprints(found)[0] ?? "", found.signatures);
  };
  expect(await asked()).toEqual([true, true]);
  await retireFirst(cache);
  expect(await asked()).toEqual([false, true]);
});
