import { afterEach, expect, test } from "vitest";
import { HUB_LIMITS, type HubBench, withHub } from "#test/support/hub.ts";

let bench: HubBench | null = null;

afterEach(async () => {
  await bench?.[Symbol.asyncDispose]();
  bench = null;
});

const MEASURED = { cpu_usage_pct: 12.5, ram_free_mb: 900, disk_speed_mbps: 3.5, network_speed_mbps: null };

test("what a worker measures is recorded at the pace of the option, however often it is sent", async () => {
  bench = await withHub({ limits: { ...HUB_LIMITS, workerSampleIntervalMs: 300 } });
  const { db, organizationId } = bench;
  const worker = await bench.registered();
  await bench.addBuild("thing");
  worker.send({ type: "request_job", kind: "build", free: 1 });
  await worker.next("assign_job");
  for (let i = 0; i < 1_000; i++) worker.send({ type: "worker_metrics", ...MEASURED });

  const samples = db.selectFrom("worker_sample").select("metrics");
  await expect.poll(async () => (await samples.execute()).length).toBeGreaterThanOrEqual(2);
  expect((await samples.execute()).length).toBeLessThan(10);
  const { metrics } = await db.selectFrom("worker_connection").select("metrics").executeTakeFirstOrThrow();
  expect(metrics).toEqual({
    ...MEASURED,
    ram_total_mb: 4096,
    assigned: { [organizationId]: 1 },
    max_concurrent_builds: 4,
    state: "active",
  });
});

test("a worker that drains shows it at once, and goes on showing it after it says anew what it can do", async () => {
  bench = await withHub();
  const worker = await bench.registered();
  worker.send({ type: "draining" });
  const groups = [{ architectures: ["x86_64-linux"], system_features: [], max_concurrent_builds: 1 }];
  const facts = { groups, max_concurrent_evaluations: 1, cpu_count: 4, ram_total_mb: 4096 };
  worker.send({ type: "worker_capabilities", ...facts, attempts: null });

  const row = bench.db.selectFrom("worker_connection").select("description");
  await expect
    .poll(async () => (await row.executeTakeFirstOrThrow()).description)
    .toMatchObject({ draining: true, groups });
});

test("a server that stops says so to its workers before it ends their sessions", async () => {
  bench = await withHub();
  const worker = await bench.registered();
  await bench.hub.close();

  expect(await worker.next("draining")).toEqual({ type: "draining" });
  await expect.poll(() => worker.closed).toBe("the server is stopping");
});
