import { sql } from "kysely";
import { expect, test } from "vitest";
import { type Clock, systemClock } from "#core/lib/clock.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { type HubBench, withHub } from "#test/support/hub.ts";

/** Sooner than the poll interval would see to it. */
const SOON = { timeout: 3_000 };

async function stateOf({ db }: HubBench, id: string) {
  const row = await db
    .selectFrom("evaluation")
    .select(["status", "waiting_reason"])
    .where("id", "=", id)
    .executeTakeFirstOrThrow();
  return [row.status, row.waiting_reason?.kind ?? null];
}

test("evaluations say at once what they wait for when workers come and go", async () => {
  await using bench = await withHub();
  const { db, deps, organizationId } = bench;
  const first = await bench.addBuild("first");
  const second = await bench.addBuild("second");
  await sql`update evaluation set building_started_at = gradient_now()`.execute(db);
  deps.notifier.notify("work", organizationId);
  await expect.poll(() => stateOf(bench, first.evaluationId), SOON).toEqual([4, "workers"]);

  const worker = await bench.registered({ builds: 1 });
  await expect.poll(() => stateOf(bench, second.evaluationId), SOON).toEqual([3, null]);
  worker.send({ type: "request_job", kind: "build", free: 1 });
  const { job } = await worker.next("assign_job");
  const given = job.kind === "build" && job.build === first.id ? first : second;
  const other = given === first ? second : first;
  expect(await stateOf(bench, given.evaluationId)).toEqual([3, null]);

  worker.connection.close(1001, "goes");
  await expect.poll(() => stateOf(bench, other.evaluationId), SOON).toEqual([4, "workers"]);
  // Its worker may come back with it.
  expect(await stateOf(bench, given.evaluationId)).toEqual([3, null]);
});

test("other servers are told whose workers have come, changed and gone", async () => {
  const notified: string[] = [];
  await using bench = await withHub();
  const { notifier } = bench.deps;
  notifier.subscribe("work", (subject) => notified.push(subject));
  const told = async (what: string) => {
    await expect.poll(() => notified.includes(bench.organizationId), { ...SOON, message: what }).toBe(true);
    // What else this event brings has come.
    await new Promise((resolve) => setTimeout(resolve, 300));
    notified.length = 0;
  };
  const worker = await bench.registered({ builds: 1 });
  worker.send({ type: "request_job", kind: "build", free: 1 });
  await told("came");
  worker.send({ type: "draining" });
  await told("changed");
  worker.connection.close(1001, "goes");
  await told("gone");
});

test("what asks for builds right after some were given out is served by one pass", async () => {
  const waiting: (() => void)[] = [];
  const clock: Clock = {
    ...systemClock,
    // However long a pass takes here, it took no time.
    monotonic: () => 0,
    schedule: (ms, action) => {
      if (ms !== 15) return systemClock.schedule(ms, action);
      waiting.push(action);
      return () => {};
    },
  };
  await using bench = await withHub({ clock });
  const worker = await bench.registered({ builds: 3 });
  for (const name of ["one", "two", "three"]) await bench.addBuild(name);
  worker.send({ type: "request_job", kind: "build", free: 1 });
  const first = await worker.next("assign_job");
  await expect.poll(() => waiting.length, SOON).toBe(1);

  worker.send({ type: "request_job", kind: "build", free: 1 });
  worker.send({ type: "request_job", kind: "build", free: 1 });
  const others = [worker.next("assign_job"), worker.next("assign_job")];
  // Both have been heard by then.
  await new Promise((resolve) => setTimeout(resolve, 200));
  waiting[0]?.();
  const attempts = (await Promise.all(others)).map(({ attempt }) => attempt);
  const rows = await bench.db
    .selectFrom("attempt")
    .select(["id", "assigned_at"])
    .where("id", "in", [first.attempt, ...attempts])
    .execute();
  const times = new Map(rows.map(({ id, assigned_at }) => [id, Number(assigned_at)]));
  expect(times.get(attempts[0] ?? "")).toBe(times.get(attempts[1] ?? ""));
  expect(times.get(attempts[0] ?? "")).toBeGreaterThan(times.get(first.attempt) ?? Number.POSITIVE_INFINITY);
});

test("a ready build goes to an idle worker rather than to a busy one that asks for some to wait there", async () => {
  await using bench = await withHub();
  const workers = [await bench.registered({ builds: 1 }), await bench.registered({ builds: 1 })];
  // Equal scores go by id: the busy one is that with the smaller id.
  const [busy, idle] = workers.sort((a, b) => (a.workerId < b.workerId ? -1 : 1)) as [FakeWorker, FakeWorker];
  await bench.addBuild("first");
  await bench.addBuild("second");
  busy.send({ type: "request_job", kind: "build", free: 2 });
  await expect.poll(() => busy.count("assign_job")).toBe(2);
  busy.send({ type: "request_job", kind: "build", free: 6 });
  idle.send({ type: "request_job", kind: "build", free: 1 });
  for (const worker of workers) {
    // What is asked is answered in order: the requests have been heard then.
    worker.send({ type: "reauth_request" });
    await worker.next("auth_challenge");
  }
  await bench.addBuild("third");
  bench.deps.notifier.notify("work", bench.organizationId);
  await expect.poll(() => workers.map((worker) => worker.count("assign_job"))).toEqual([2, 1]);
});
