import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { readIntegrityCounts } from "#core/db/nar-repairs.ts";
import { inTransaction } from "#core/db/transaction.ts";
import { type Bytes, toHex } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { commitPaths } from "#core/services/cache-commit.ts";
import type { Nar } from "#core/services/nar.ts";
import { reportDamage } from "#core/services/nar-damage.ts";
import { repairDue } from "#core/services/nar-repairs.ts";
import { compressed, cut, fileNar, randomContent, storeFile } from "#test/cache/support.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { type HubBench, withHub } from "#test/support/hub.ts";

let bench: HubBench;
let workers: FakeWorker[];
beforeAll(async () => {
  bench = await withHub();
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  for (const worker of workers ?? []) worker.connection.close(1001, "the test is over");
  workers = [];
  await sql`truncate nar_damage, integrity_count`.execute(bench.db);
  await sql`update nar set damaged_at = null`.execute(bench.db);
});

interface Lost {
  readonly storePath: StorePath;
  readonly nar: Nar;
  readonly bytes: Bytes;
}

const never = new AbortController().signal;

async function storesOf(organizationId: string): Promise<{ internal: string; cache: string }> {
  const internal = await bench.db
    .selectFrom("cache")
    .select("id")
    .where("organization_id", "=", organizationId)
    .executeTakeFirstOrThrow();
  const cache = await bench.db
    .selectFrom("organization_cache")
    .select("cache_id")
    .where("organization_id", "=", organizationId)
    .executeTakeFirstOrThrow();
  return { internal: internal.id, cache: cache.cache_id };
}

/** A path in these stores whose object is gone for good, as far as the server can tell. */
async function lose(cacheIds: readonly string[], name = "lost"): Promise<Lost> {
  const content = randomContent(150_000);
  const { nar, ...path } = await storeFile(bench, name, { content });
  await inTransaction(bench.db, (trx) =>
    commitPaths(trx, bench.deps, { cacheIds, organizationId: null, paths: [path] }),
  );
  await bench.deps.blobs.delete(nar.objectKey);
  await reportDamage(bench.deps, nar, { fault: "missing", message: "the object is missing" });
  await repairDue(bench.deps, never);
  return { storePath: path.storePath, nar, bytes: await fileNar(content) };
}

async function worker(organizationId = bench.organizationId, returnsNars = true): Promise<FakeWorker> {
  const added = await bench.registered({ organizationId, returnsNars });
  workers.push(added);
  return added;
}

/** Looks, as the hub does every few seconds. */
function look(): void {
  bench.deps.notifier.notify("damage", "all");
}

async function sendBack(from: FakeWorker, want: number, file: Bytes): Promise<void> {
  const stream = from.connection.openStream();
  from.send({ type: "nar_return", want, compression: "zstd", stream: stream.id });
  await stream.pipe(streamOf(...cut(file)));
}

async function isDamaged({ nar }: Lost): Promise<boolean> {
  const row = await bench.db
    .selectFrom("nar")
    .select("damaged_at")
    .where("nar_hash", "=", nar.narHash.digest)
    .executeTakeFirstOrThrow();
  return row.damaged_at !== null;
}

test.each(["internal", "cache"] as const)("a worker brings back what its organization had in its %s", async (which) => {
  const asked = await worker();
  const lost = await lose([(await storesOf(bench.organizationId))[which]]);

  const wanted = await asked.next("nar_wanted");
  expect(wanted).toMatchObject({
    organization: bench.organizationId,
    path: lost.storePath,
    nar_hash: toHex(lost.nar.narHash.digest),
    nar_size: lost.bytes.length,
  });
  await sendBack(asked, wanted.want, await compressed(lost.bytes));

  await expect.poll(() => isDamaged(lost)).toBe(false);
  expect(await readIntegrityCounts(bench.db)).toMatchObject({ damaged_missing: 1, repaired_worker: 1 });
});

test("who connects later is asked, and the next worker when one does not have it", async () => {
  const lost = await lose([(await storesOf(bench.organizationId)).internal]);
  const first = await worker();
  look();
  first.onMessage = (message) => {
    if (message.type !== "nar_wanted") return;
    first.send({ type: "nar_absent", want: message.want, reason: "the store does not have it" });
  };
  await first.next("nar_wanted");
  const second = await worker();
  look();
  const again = await second.next("nar_wanted");
  await sendBack(second, again.want, await compressed(lost.bytes));
  await expect.poll(() => isDamaged(lost)).toBe(false);
});

test("nobody is asked about what is not its organization's, nor where it only reads", async () => {
  const other = await bench.makeOrganization();
  const { internal, cache } = await storesOf(other);
  const { cache: own } = await storesOf(bench.organizationId);
  await bench.db
    .updateTable("organization_cache")
    .set({ mode: 1 })
    .where("cache_id", "=", own)
    .where("organization_id", "=", bench.organizationId)
    .execute();
  const stranger = await worker();
  const silent = await worker(other, false);
  const asked = await worker(other);
  await lose([internal], "internal");
  await lose([cache], "cache");
  const readOnly = await lose([own], "read-only");

  const paths: string[] = [];
  for (let count = 0; count < 2; count++) {
    const { path, want } = await asked.next("nar_wanted");
    paths.push(path);
    asked.send({ type: "nar_absent", want, reason: "no" });
  }
  look();
  await asked.next("nar_wanted");
  expect(paths).not.toContain(readOnly.storePath);
  expect([stranger.count("nar_wanted"), silent.count("nar_wanted")]).toEqual([0, 0]);
  await bench.db.updateTable("organization_cache").set({ mode: 0 }).where("cache_id", "=", own).execute();
});

test.each<[string, (lost: Lost) => Promise<Bytes>]>([
  ["other bytes", async ({ bytes }) => await compressed(bytes.map((byte, at) => (at === 200 ? byte ^ 1 : byte)))],
  ["half of it", async ({ bytes }) => (await compressed(bytes)).slice(0, 50_000)],
  ["what is no file at all", async () => randomContent(1_000)],
])("a worker that sends %s changes nothing, and is not asked again", async (_, make) => {
  const asked = await worker();
  const lost = await lose([(await storesOf(bench.organizationId)).internal]);
  const { want } = await asked.next("nar_wanted");
  await sendBack(asked, want, await make(lost)).catch(() => {});
  await expect.poll(() => bench.log.lines.some(({ message }) => message.includes("did not bring back"))).toBe(true);

  bench.deps.notifier.notify("damage", "look");
  await sleep(50);
  expect(await isDamaged(lost)).toBe(true);
  expect(asked.count("nar_wanted")).toBe(1);
  expect(asked.closed).toBeNull();
  const kept = await bench.db.selectFrom("nar").select("object_key").execute();
  const { objects } = await bench.deps.blobs.list("nar/");
  expect(kept.map(({ object_key }) => object_key)).toEqual(expect.arrayContaining(objects.map(({ key }) => key)));
});

test("a NAR that nobody asked for is refused, and does no harm", async () => {
  const from = await worker();
  const lost = await lose([(await storesOf(await bench.makeOrganization())).internal]);
  await expect(sendBack(from, 7, new Uint8Array(4_000_000))).rejects.toThrow("stopped");
  from.send({ type: "nar_absent", want: 8, reason: "" });
  await sleep(20);
  expect(from.closed).toBeNull();
  expect(await isDamaged(lost)).toBe(true);
});

test("a session that ends in the middle of it leaves nothing, and the next worker is asked", async () => {
  const first = await worker();
  const lost = await lose([(await storesOf(bench.organizationId)).internal]);
  const { want } = await first.next("nar_wanted");
  const stream = first.connection.openStream();
  first.send({ type: "nar_return", want, compression: "zstd", stream: stream.id });
  await stream.write((await compressed(lost.bytes)).slice(0, 60_000));
  first.connection.close(1001, "gone");

  const second = await worker();
  look();
  const again = await second.next("nar_wanted");
  await sendBack(second, again.want, await compressed(lost.bytes));
  await expect.poll(() => isDamaged(lost)).toBe(false);
});

test("what a push has healed meanwhile is not replaced by a worker's", async () => {
  const asked = await worker();
  const lost = await lose([(await storesOf(bench.organizationId)).internal]);
  const { want } = await asked.next("nar_wanted");
  await bench.db.updateTable("nar").set({ damaged_at: null }).where("nar_hash", "=", lost.nar.narHash.digest).execute();
  await sendBack(asked, want, await compressed(lost.bytes));
  await sleep(50);
  const row = await bench.db
    .selectFrom("nar")
    .select("object_key")
    .where("nar_hash", "=", lost.nar.narHash.digest)
    .executeTakeFirstOrThrow();
  expect(row.object_key).toBe(lost.nar.objectKey);
});
