import { afterAll, beforeAll, expect, test } from "vitest";
import type { CacheStatsView, NarView } from "#core/api/caches-nars.ts";
import type { Page } from "#core/api/pages.ts";
import { CacheSizes } from "#core/services/cache-sizes.ts";
import { createNarTraffic } from "#core/services/traffic.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let t: TestApp;
let owner: TestUser;
let cacheId: string;
const hashOf = (n: number) => String(n).padStart(32, "0");

beforeAll(async () => {
  t = await withApp();
  owner = await t.user("Owner");
  const body = { name: "main", display_name: "Main" };
  cacheId = (await t.ask("PUT", "/caches", { token: owner.token, body })).body.message;
});
afterAll(() => t[Symbol.asyncDispose]());

/** `n` also says how old the path is, in minutes. */
async function addPath(n: number, name: string, size: number): Promise<void> {
  const narHash = new Uint8Array(32).fill(n);
  const age = new Date(Date.now() - n * 60_000);
  await t.db
    .insertInto("nar")
    .values({
      nar_hash: narHash,
      nar_size: size,
      file_hash: narHash,
      file_size: size / 2,
      compression: "zstd",
      object_key: `nar/${n}`,
    })
    .execute();
  await t.db
    .insertInto("cache_path")
    .values({
      cache_id: cacheId,
      hash: hashOf(n),
      store_path: `${hashOf(n)}-${name}`,
      nar_hash: narHash,
      references: [`${hashOf(n)}-${name}`],
      deriver: `${hashOf(n)}-${name}.drv`,
      signatures: ["key:AAAA"],
      created_at: age,
      last_used_at: age,
    })
    .execute();
}

const ask = async (path: string, token?: string) => await t.ask("GET", `/caches/main${path}`, token ? { token } : {});
const mine = async <T = unknown>(path: string): Promise<T> => (await ask(path, owner.token)).body.message;

test("paths are listed by age, size or use, found by hash and name, and counted", async () => {
  await addPath(1, "hello-2.12", 400);
  await addPath(2, "Hello-Docs-2.12", 1_000);
  await addPath(3, "zlib-1.3", 200);
  const names = async (query: string) => (await mine<Page<NarView>>(`/nars${query}`)).items.map((item) => item.package);

  expect(await names("")).toEqual(["hello-2.12", "Hello-Docs-2.12", "zlib-1.3"]);
  expect(await names("?order=asc&per_page=1")).toEqual(["zlib-1.3"]);
  expect(await names("?sort=nar_size")).toEqual(["Hello-Docs-2.12", "hello-2.12", "zlib-1.3"]);
  expect(await names("?sort=last_fetched_at&order=asc&page=2&per_page=2")).toEqual(["hello-2.12"]);
  expect(await names("?package=hELLo")).toEqual(["hello-2.12", "Hello-Docs-2.12"]);
  expect(await names(`?hash=${hashOf(3)}`)).toEqual(["zlib-1.3"]);
  expect(await names("?package=%25")).toEqual([]);
  expect(await mine("/nars?package=docs")).toMatchObject({ total: 1, page: 1, per_page: 50 });
  expect(await mine("/nars?per_page=100000")).toMatchObject({ total: 3, per_page: 200 });
  for (const wrong of ["?sort=name", "?hash=%25", "?page=-1", "?order=up"]) {
    expect((await ask(`/nars${wrong}`, owner.token)).status).toBe(400);
  }
});

test("one path is told whole, and whether it is served", async () => {
  await t.db.updateTable("cache_path").set({ fetch_count: 3 }).where("hash", "=", hashOf(1)).execute();
  expect(await mine(`/nars/${hashOf(1)}`)).toMatchObject({
    hash: hashOf(1),
    store_path: `/nix/store/${hashOf(1)}-hello-2.12`,
    package: "hello-2.12",
    nar_size: 400,
    file_size: 200,
    nar_hash: expect.stringMatching(/^sha256:[0-9a-z]{52}$/),
    references: [`${hashOf(1)}-hello-2.12`],
    deriver: `${hashOf(1)}-hello-2.12.drv`,
    fetch_count: 3,
    signed: true,
  });
  expect(await mine(`/nars/available?hash=${hashOf(1)}`)).toEqual({ available: true });
  expect(await mine(`/nars/available?hash=/nix/store/${hashOf(9)}-x`)).toEqual({ available: false });
  await t.db.updateTable("nar").set({ damaged_at: new Date() }).where("object_key", "=", "nar/1").execute();
  expect(await mine(`/nars/available?hash=${hashOf(1)}`)).toEqual({ available: false });
  expect((await ask(`/nars/${hashOf(1)}`, owner.token)).status).toBe(404);
  for (const query of ["", "?hash=short"]) expect((await ask(`/nars/available${query}`, owner.token)).status).toBe(400);
  expect(await mine("/nars/stats")).toEqual({
    total_nars: 3,
    total_nar_size: 1_600,
    total_file_size: 800,
    last_uploaded_at: expect.any(String),
    oldest_fetched_at: expect.any(String),
  });
});

test("what was sent and held is told by minute, hour, day and week, with nothing in between left out", async () => {
  const traffic = createNarTraffic({ db: t.db });
  const sizes = new CacheSizes(t.db);
  traffic.sent(cacheId, 100);
  traffic.sent(cacheId, 50);
  await traffic.flush();
  await sizes.note();
  await t.db
    .updateTable("cache_history")
    .set({ bucket_start: new Date(Date.now() - 40 * 86_400_000) })
    .where("granularity", "=", 2)
    .execute();
  await addPath(4, "late", 1_000);
  await sizes.note();
  traffic.sent(cacheId, 1);
  await traffic.flush();

  const stats = await mine<CacheStatsView>("/stats");
  expect(stats).toMatchObject({ total_bytes: 1_300, total_nar_bytes: 2_600, total_packages: 4 });
  const spans = [60, 24, 30, 12];
  const { minutes, hours, days, weeks } = stats;
  expect([minutes, hours, days, weeks].map(({ length }) => length)).toEqual(spans);
  const { storage_minutes, storage_hours, storage_days, storage_weeks } = stats;
  expect([storage_minutes, storage_hours, storage_days, storage_weeks].map(({ length }) => length)).toEqual(spans);
  expect(stats.weeks.at(-1)).toMatchObject({ bytes: 151, requests: 3 });
  expect(stats.weeks[0]).toMatchObject({ bytes: 0, requests: 0 });
  expect(stats.days.at(-1)).toMatchObject({ bytes: 1, requests: 1 });
  expect(stats.storage_days[0], "what was noted before the first day still held").toMatchObject({ packages: 3 });
  expect(stats.storage_days.at(-1)).toMatchObject({ packages: 4, bytes: 1_300 });
  expect(stats.storage_weeks[0]).toMatchObject({ packages: 0, bytes: 0 });
});

test("of a private cache strangers learn nothing", async () => {
  const { token } = await t.user("Stranger");
  for (const path of ["/stats", "/nars", "/nars/stats", `/nars/${hashOf(2)}`, `/nars/available?hash=${hashOf(2)}`]) {
    for (const who of [token, undefined]) expect([path, (await ask(path, who)).status]).toEqual([path, 404]);
  }
});
