import { afterAll, beforeAll, expect, test } from "vitest";
import { insertRealisations } from "#core/db/realisations.ts";
import { inTransaction } from "#core/db/transaction.ts";
import { toHex } from "#core/lib/bytes.ts";
import {
  formatRealisationId,
  parseRealisation,
  printRealisation,
  type Realisation,
  realisationFingerprints,
} from "#core/nix/realisation.ts";
import { type PublicKey, parsePublicKey, verify } from "#core/nix/signature.ts";
import { storePathBaseName } from "#core/nix/store-path.ts";
import { type LocalPath, localPath, type PushBench, push, type TestPusher, withPushBench } from "./push-support.ts";
import { randomContent, type TestCache } from "./support.ts";

let bench: PushBench;
let cache: TestCache;
let ada: TestPusher;

beforeAll(async () => {
  bench = await withPushBench();
  cache = await bench.makeCache();
  ada = await bench.pusher({ [cache.id]: "Write" });
});
afterAll(() => bench?.[Symbol.asyncDispose]());

async function pushed(name: string, where: TestCache = cache, as: TestPusher = ada): Promise<LocalPath> {
  const path = await localPath(name);
  expect(await push(bench, as, where, path)).toBe(200);
  return path;
}

function realisationOf({ storePath }: LocalPath, changes: Partial<Realisation> = {}): Realisation {
  return {
    hash: toHex(randomContent(32)),
    output: "out",
    outPath: storePath,
    dependents: [],
    signatures: [],
    ...changes,
  };
}

interface Put {
  readonly as?: TestPusher;
  readonly where?: TestCache;
  /** Where another is named than what is sent. */
  readonly id?: string;
  readonly body?: string;
}

async function put(realisation: Realisation, { as = ada, where = cache, ...rest }: Put = {}): Promise<number> {
  const { id = formatRealisationId(realisation), body = printRealisation(realisation) } = rest;
  // As 2.34 sends it; 2.8 leaves the `!` as it is.
  const path = `${where.name}/realisations/${encodeURIComponent(id)}.doi`;
  return (await bench.ask("PUT", path, { as, body })).status;
}

async function get(key: Pick<Realisation, "hash" | "output">, where = cache, as?: TestPusher): Promise<Response> {
  return await bench.ask("GET", `${where.name}/realisations/${formatRealisationId(key)}.doi`, as ? { as } : {});
}

async function read(key: Pick<Realisation, "hash" | "output">): Promise<Realisation> {
  const answer = await get(key);
  expect(answer.status).toBe(200);
  return parseRealisation(await answer.text()) as Realisation;
}

async function trusts(realisation: Realisation): Promise<boolean[]> {
  const key = parsePublicKey(cache.publicKey) as PublicKey;
  const texts = realisationFingerprints(realisation);
  const check = (text: string) => Promise.all(realisation.signatures.map((signature) => verify(key, text, signature)));
  return (await Promise.all(texts.map(check))).map((results) => results.includes(true));
}

test("what is put comes back, signed by the cache beside whoever signed it before", async () => {
  const realisation = realisationOf(await pushed("one"), { signatures: ["other-1:AAAA"] });
  expect(await put(realisation)).toBe(200);
  const found = await read(realisation);
  expect(found).toMatchObject({ outPath: realisation.outPath, dependents: [] });
  expect(found.signatures).toContain("other-1:AAAA");
  expect(await trusts(found)).toEqual([true]);
});

test("dependents come with it as far as the cache knows them, and signatures fit both ways to read it", async () => {
  const below = realisationOf(await pushed("below"));
  const unknown = realisationOf(await localPath("unknown"));
  const above = realisationOf(await pushed("above"), { dependents: [below, unknown] });
  expect(await put(above)).toBe(200);
  expect((await read(above)).dependents).toEqual([]);
  expect(await put(below)).toBe(200);
  const found = await read(above);
  expect(found.dependents).toEqual([{ hash: below.hash, output: "out", outPath: below.outPath }]);
  expect(await trusts(found)).toEqual([true, true]);
});

test("what a cache says of an output stays, until it no longer has the path", async () => {
  const [one, two] = [await pushed("first"), await pushed("second")];
  const first = realisationOf(one);
  expect(await put(first)).toBe(200);
  const second = { ...first, outPath: two.storePath };
  expect(await put(second)).toBe(200);
  expect((await read(first)).outPath).toBe(one.storePath);

  const { db } = bench.deps;
  const damaged = { damaged_at: new Date() };
  await db.updateTable("nar").set(damaged).where("nar_hash", "=", one.narHash.digest).execute();
  expect((await get(first)).status).toBe(404);
  expect(await put(second)).toBe(200);
  expect((await read(first)).outPath).toBe(two.storePath);
  await db.deleteFrom("cache_path").where("hash", "=", two.hash).execute();
  expect(await db.selectFrom("realisation").select("output").where("path_hash", "=", two.hash).execute()).toEqual([]);
});

test("what is none, of another name, or of a path that the cache does not offer, is refused", async () => {
  const path = await pushed("sound");
  const realisation = realisationOf(path);
  const other = formatRealisationId({ hash: toHex(randomContent(32)), output: "out" });
  expect(await put(realisation, { id: other })).toBe(422);
  expect(await put(realisation, { body: "{}" })).toBe(422);
  expect(await put(realisation, { body: `${printRealisation(realisation)}x` })).toBe(422);
  expect(await put(realisationOf(await localPath("absent")))).toBe(422);
  expect(await put(realisation, { id: "sha256:abc!out" })).toBe(404);
  expect((await get(realisation)).status).toBe(404);
});

test("who may not write to a cache says nothing of its outputs, and who may not read it learns nothing", async () => {
  const hidden = await bench.makeCache({ public: false });
  const owner = await bench.pusher({ [hidden.id]: "Write" });
  const reader = await bench.pusher({ [hidden.id]: "View" });
  const realisation = realisationOf(await pushed("hidden", hidden, owner));
  expect(await put(realisation, { as: reader, where: hidden })).toBe(403);
  expect(await put(realisation, { as: ada, where: hidden })).toBe(404);
  expect(await put(realisation, { as: owner, where: hidden })).toBe(200);
  expect((await get(realisation, hidden)).status).toBe(401);
  expect((await get(realisation, hidden, ada)).status).toBe(404);
  expect((await get(realisation, hidden, reader)).status).toBe(200);
  // In another cache it is not known, though the cache has the path.
  expect((await get(realisation)).status).toBe(404);
});

test("only caches that hold the path take what builds left", async () => {
  const [path, other] = [await pushed("held"), await bench.makeCache()];
  const { hash, output } = realisationOf(path);
  const row = { hash, output, store_path: storePathBaseName(path.storePath), dependents: [], signatures: [] };
  const insert = () =>
    inTransaction(bench.deps.db, (trx) => insertRealisations(trx, [cache.id, other.id], [row]), bench.deps);
  expect(await insert()).toBe(1);
  expect(await insert()).toBe(0);
});
