import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { BuildStatus } from "#core/domain/states.ts";
import { toHex } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import { parseStorePathBaseName, type StorePath, storePathHash } from "#core/nix/store-path.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { type DeliveredPath, Deliveries, type Delivery } from "#core/services/deliveries.ts";
import { storeObject } from "#core/services/nar-receive.ts";
import { fileNar, narHashOf, randomContent } from "../cache/support.ts";
import { type BenchBuild, type HubBench, withHub } from "../support/hub.ts";
import { newId } from "../support/rows.ts";

const BUILT: BuildResult = { kind: "build", status: "built", outputs: [], failure: null, build_ms: 1 };
const FAILED: BuildResult = { ...BUILT, status: "failed", failure: { class: "permanent", message: "no", missing: [] } };
const MISSING = parseStorePathBaseName(`${"1".repeat(32)}-missing`) as StorePath;

let bench: HubBench;
let deliveries: Deliveries;

beforeEach(async () => {
  bench = await withHub();
  deliveries = new Deliveries(bench.deps);
});
afterEach(() => bench[Symbol.asyncDispose]());

interface LeasedBuild extends BenchBuild {
  readonly attemptId: string;
}

async function leased(name: string): Promise<LeasedBuild> {
  return await lease(await bench.addBuild(name));
}

async function lease(build: BenchBuild): Promise<LeasedBuild> {
  const attemptId = newId();
  await bench.db.updateTable("build").set({ status: BuildStatus.Building }).where("id", "=", build.id).execute();
  await sql`
    insert into attempt (id, kind, organization_id, build_id, worker_id, lease_expires_at)
    values (${attemptId}, 1, ${bench.organizationId}, ${build.id}, ${newId()}, gradient_now() + interval '1 hour')
  `.execute(bench.db);
  return { ...build, attemptId };
}

async function stored(storePath: StorePath, references: StorePath[] = [], nar?: Uint8Array): Promise<DeliveredPath> {
  const bytes = new Uint8Array(nar ?? (await fileNar(randomContent(32))));
  const narHash = await narHashOf(bytes);
  const upload = { narHash, narSize: bytes.length, compression: "none", body: streamOf(bytes) } as const;
  const object = await storeObject(bench.deps, upload);
  return { target: "output", path: { storePath, narHash, references, deriver: null, ca: null }, object };
}

async function deliveryOf(build: LeasedBuild, references: StorePath[] = [], nar?: Uint8Array): Promise<Delivery> {
  const paths = [await stored(build.output, references, nar)];
  return { paths, result: { attemptId: build.attemptId, result: BUILT } };
}

const add = (delivery: Delivery) => deliveries.add(bench.organizationId, delivery);

/** Adds the first alone, and while its transaction waits for a lock the others, which make the next group. */
async function together<T>(others: () => Promise<T>[]): Promise<PromiseSettledResult<T>[]> {
  const blocked = await leased("blocked");
  const begun = Promise.withResolvers<void>();
  const letGo = Promise.withResolvers<void>();
  const holding = bench.db.transaction().execute(async (trx) => {
    await sql`select from attempt where id = ${blocked.attemptId} for update`.execute(trx);
    begun.resolve();
    await letGo.promise;
  });
  await begun.promise;
  const first = add(await deliveryOf(blocked));
  await expect.poll(() => waitingForLocks()).toBe(1);
  const settled = Promise.allSettled(others());
  letGo.resolve();
  await holding;
  await first;
  return await settled;
}

async function waitingForLocks(): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::int from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`.execute(
    bench.db,
  );
  return rows[0]?.count ?? 0;
}

/** How many transactions have written into the table: rows of one transaction have one number. */
async function transactionsOf(table: "cache_path" | "nar"): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(distinct xmin::text)::int from ${sql.table(table)}`.execute(bench.db);
  return rows[0]?.count ?? 0;
}

async function statusOf({ id }: BenchBuild): Promise<number> {
  const row = await bench.db.selectFrom("build").select("status").where("id", "=", id).executeTakeFirstOrThrow();
  return row.status;
}

async function isOffered(path: StorePath): Promise<boolean> {
  const rows = await bench.db.selectFrom("cache_path").select("hash").where("hash", "=", storePathHash(path)).execute();
  return rows.length > 0;
}

async function hasObject({ paths: [path] }: Delivery): Promise<boolean> {
  return (await bench.deps.blobs.head(path?.object.object_key ?? "")) !== null;
}

test("what comes while a transaction is under way goes together into the next one", async () => {
  const builds = await Promise.all(["a", "b", "c"].map(leased));
  const all = await Promise.all(builds.map((build) => deliveryOf(build)));
  const outcomes = await together(() => all.map(add));

  expect(outcomes.map((one) => one.status === "fulfilled" && one.value)).toEqual(["recorded", "recorded", "recorded"]);
  expect(await Promise.all(builds.map(statusOf))).toEqual(builds.map(() => BuildStatus.Completed));
  expect(await transactionsOf("cache_path")).toBe(2);
});

test("a bad neighbour fails alone, changes nothing, and its objects are there to be delivered again", async () => {
  const [good, bad, last] = await Promise.all([leased("good"), leased("bad"), leased("last")]);
  const broken = await deliveryOf(bad, [MISSING]);
  const others = [await deliveryOf(good), broken, await deliveryOf(last)];
  const outcomes = await together(() => others.map(add));

  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(outcomes[1]).toMatchObject({ reason: { message: expect.stringContaining(MISSING) } });
  expect(await Promise.all([good, bad, last].map(statusOf))).toEqual([
    BuildStatus.Completed,
    BuildStatus.Building,
    BuildStatus.Completed,
  ]);
  expect([await isOffered(good.output), await isOffered(bad.output)]).toEqual([true, false]);
  const nar = toHex((broken.paths[0] as DeliveredPath).object.nar_hash);
  const rows = await bench.db.selectFrom("nar").select("nar_hash").execute();
  expect(rows.map(({ nar_hash }) => toHex(nar_hash))).not.toContain(nar);
  expect(await hasObject(broken)).toBe(true);
});

test("of an attempt whose lease has ended nothing is taken, while its neighbours are recorded", async () => {
  const [alive, dead] = [await leased("alive"), await leased("dead")];
  await sql`update attempt set finished_at = gradient_now(), outcome = 2 where id = ${dead.attemptId}`.execute(
    bench.db,
  );
  const late = await deliveryOf(dead);
  const others = [await deliveryOf(alive), late];
  const outcomes = await together(() => others.map(add));

  expect(outcomes).toMatchObject([{ value: "recorded" }, { value: "refused" }]);
  expect([await statusOf(alive), await statusOf(dead)]).toEqual([BuildStatus.Completed, BuildStatus.Building]);
  expect(await isOffered(dead.output)).toBe(false);
  expect(await hasObject(late)).toBe(false);
});

test("of a lease that the database forgot nothing is taken, and the next lease's result is recorded once", async () => {
  const build = await leased("forgotten");
  const lost = await deliveryOf(build);
  await sql`delete from attempt where id = ${build.attemptId}`.execute(bench.db);
  await sql`update build set status = ${BuildStatus.Queued} where id = ${build.id}`.execute(bench.db);

  expect(await add(lost)).toBe("refused");
  expect([await statusOf(build), await isOffered(build.output), await hasObject(lost)]).toEqual([
    BuildStatus.Queued,
    false,
    false,
  ]);

  const next = await lease(build);
  const nar = await fileNar(randomContent(32));
  const second = await deliveryOf(next, [], nar);
  const [again, counted] = [await deliveryOf(build, [], nar), await deliveryOf(next, [], nar)];
  const outcomes = await together(() => [again, counted, second].map(add));
  expect(outcomes).toMatchObject([{ value: "refused" }, { value: "recorded" }, { value: "refused" }]);
  expect([await statusOf(build), await isOffered(build.output)]).toEqual([BuildStatus.Completed, true]);
  expect([await hasObject(again), await hasObject(counted)]).toEqual([false, true]);
});

test("of two results of one attempt the first counts, also when both come in one group", async () => {
  const build = await leased("twice");
  const first = await deliveryOf(build);
  const second: Delivery = { paths: [], result: { attemptId: build.attemptId, result: FAILED } };
  const outcomes = await together(() => [add(first), add(second)]);

  expect(outcomes).toMatchObject([{ value: "recorded" }, { value: "refused" }]);
  expect(await statusOf(build)).toBe(BuildStatus.Completed);
});

test("a delivery that comes again, as nobody heard of its commit, is refused, and what it brought stays", async () => {
  const build = await leased("again");
  const delivery = await deliveryOf(build);

  expect([await add(delivery), await add(delivery)]).toEqual(["recorded", "refused"]);

  expect([await isOffered(build.output), await hasObject(delivery)]).toEqual([true, true]);
});

test("one NAR that several deliver is stored once", async () => {
  const nar = await fileNar(randomContent(32));
  const builds = await Promise.all(["a", "b"].map(leased));
  const all = await Promise.all(builds.map((build) => deliveryOf(build, [], nar)));
  await together(() => all.map(add));

  expect(await Promise.all(builds.map(({ output }) => isOffered(output)))).toEqual([true, true]);
  expect((await Promise.all(all.map(hasObject))).filter(Boolean)).toHaveLength(1);
});

test("outputs may refer to each other in whatever order they come, and are offered with their result", async () => {
  const build = await leased("several");
  const other = parseStorePathBaseName(`${"2".repeat(32)}-several-dev`) as StorePath;
  const paths = [await stored(build.output, [other]), await stored(other, [build.output])];
  expect(await add({ paths, result: { attemptId: build.attemptId, result: BUILT } })).toBe("recorded");
  expect([await isOffered(build.output), await isOffered(other)]).toEqual([true, true]);
  expect(await transactionsOf("cache_path")).toBe(1);
});

test("a success whose output nobody delivered is a failure that is tried again", async () => {
  const build = await leased("lying");
  await add({ paths: [], result: { attemptId: build.attemptId, result: BUILT } });
  expect(await statusOf(build)).toBe(BuildStatus.FailedTransient);
});

test("a connection that dies in the middle of a group leaves nothing, and all can be delivered again", async () => {
  const builds = await Promise.all(["a", "b"].map(leased));
  const all = await Promise.all(builds.map((build) => deliveryOf(build)));
  const locked = Promise.withResolvers<void>();
  const letGo = Promise.withResolvers<void>();
  const holding = bench.db.transaction().execute(async (trx) => {
    // Late in the transaction: NARs and paths are written by then.
    await sql`lock table build_output in exclusive mode`.execute(trx);
    locked.resolve();
    await letGo.promise;
  });
  await locked.promise;
  const dying = all.map((delivery) => add(delivery).catch((error: Error) => error));
  await expect.poll(() => waitingForLocks()).toBe(1);
  await sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where wait_event_type = 'Lock' and datname = current_database()`.execute(bench.db);

  expect((await Promise.all(dying)).every((outcome) => outcome instanceof Error)).toBe(true);
  letGo.resolve();
  await holding;
  expect(await Promise.all(builds.map(statusOf))).toEqual([BuildStatus.Building, BuildStatus.Building]);
  expect(await transactionsOf("nar")).toBe(0);
  expect(await Promise.all(all.map(add))).toEqual(["recorded", "recorded"]);
  expect(await Promise.all(builds.map(statusOf))).toEqual([BuildStatus.Completed, BuildStatus.Completed]);
});
