import { sql } from "kysely";
import { expect, test } from "vitest";
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
