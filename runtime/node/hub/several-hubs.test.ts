import { afterEach, beforeEach, expect, test } from "vitest";
import type { Notifier, Topic } from "#core/ports/notifier.ts";
import { abortEvaluation } from "#core/services/transitions/abort.ts";
import { FakeWorker } from "#test/support/fake-worker.ts";
import { type HubBench, withHub } from "#test/support/hub.ts";
import { newId } from "#test/support/rows.ts";
import type { HubDeps } from "./deps.ts";
import { Hub } from "./hub.ts";

const SOON = { timeout: 10_000, interval: 10 };
const STORAGE = "one storage";

/** Two servers' notifiers. While they are cut each hears itself alone. */
class Line {
  cut = false;
  readonly ends: readonly [Notifier, Notifier];
  readonly #handlers = [new Map<Topic, Set<(subject: string) => void>>(), new Map()] as const;

  constructor() {
    this.ends = [this.#end(0), this.#end(1)];
  }

  #end(own: 0 | 1): Notifier {
    const deliver = (at: number, topic: Topic, subject: string) => {
      for (const handler of this.#handlers[at]?.get(topic) ?? []) handler(subject);
    };
    return {
      notify: (topic, subject) => {
        deliver(own, topic, subject);
        if (!this.cut) setTimeout(() => deliver(1 - own, topic, subject), 1);
      },
      subscribe: (topic, handler) => {
        const handlers = this.#handlers[own].get(topic) ?? new Set();
        this.#handlers[own].set(topic, handlers);
        handlers.add(handler);
        return () => handlers.delete(handler);
      },
    };
  }
}

let line: Line;
let bench: HubBench;
let other: { readonly hub: Hub; readonly deps: HubDeps };
beforeEach(async () => {
  line = new Line();
  // The loops of a hub run three times in a lease.
  const leaseMs = 1_500;
  bench = await withHub({ leaseMs, notifier: line.ends[0], server: { id: newId(), storage: STORAGE } });
  const deps = { ...bench.deps, notifier: line.ends[1], server: { id: newId(), storage: STORAGE } };
  other = { deps, hub: await Hub.start(deps) };
});
afterEach(async () => {
  await other.hub.close();
  await bench[Symbol.asyncDispose]();
});

/** A worker that the first server knows, and how it comes to the other one. */
async function wanderer(): Promise<{ readonly here: FakeWorker; readonly comeThere: () => FakeWorker }> {
  const here = await bench.registered();
  const { workerId, tokens } = here;
  return { here, comeThere: () => new FakeWorker((socket) => other.hub.accept(socket), { workerId, tokens }) };
}

test("a newer session of a worker ends the older one on another server, and keeps what it runs", async () => {
  const { here, comeThere } = await wanderer();
  await bench.addBuild("a");
  here.send({ type: "request_job", kind: "build", group: 0, free: 1 });
  const { attempt } = await here.next("assign_job");

  const there = comeThere();

  expect(await there.register({ attempts: [attempt] })).toEqual([attempt]);
  await expect.poll(() => here.closed, SOON).toBe("a newer session of this worker has begun");
  expect(there.closed).toBeNull();
});

test("it ends even when the wake-up is lost, and takes no jobs of the newer one along", async () => {
  const { here, comeThere } = await wanderer();
  line.cut = true;
  const there = comeThere();
  await there.register();
  await bench.addBuild("a");
  there.send({ type: "request_job", kind: "build", group: 0, free: 1 });
  await there.next("assign_job");

  await expect.poll(() => here.closed, SOON).toBe("a newer session of this worker has begun");

  await new Promise((resolve) => setTimeout(resolve, 3 * bench.deps.leaseMs));
  expect(there.count("abort_job")).toBe(0);
  const open = bench.db.selectFrom("attempt").select("id").where("finished_at", "is", null);
  expect(await open.execute()).toHaveLength(1);
});

test.each([
  ["at once", false],
  ["also when the wake-up is lost", true],
])("an abort reaches the server that holds the worker, %s", async (_, cut) => {
  const { here } = await wanderer();
  const build = await bench.addBuild("a");
  here.send({ type: "request_job", kind: "build", group: 0, free: 1 });
  const { attempt } = await here.next("assign_job");
  line.cut = cut;

  await abortEvaluation(other.deps, build.evaluationId);

  expect(await here.next("abort_job")).toMatchObject({ attempt });
});

test("a changed registration is seen by the server that holds the worker, also when the wake-up is lost", async () => {
  const { here } = await wanderer();
  line.cut = true;

  await bench.db.updateTable("worker_registration").set({ enable_build: false }).execute();

  await expect.poll(() => here.count("auth_challenge"), SOON).toBe(2);
});

test("work that becomes ready is given to a worker of either server, each job to one", async () => {
  const { here } = await wanderer();
  const workerId = crypto.randomUUID();
  await bench.addRegistration(workerId);
  const tokens = { [bench.organizationId]: `token of ${workerId}` };
  const there = new FakeWorker((socket) => other.hub.accept(socket), { workerId, tokens });
  await there.register();
  for (const worker of [here, there]) worker.send({ type: "request_job", kind: "build", group: 0, free: 4 });

  for (let i = 0; i < 8; i++) await bench.addBuild(`build-${i}`);
  line.ends[0].notify("work", bench.organizationId);

  await expect.poll(() => [here.count("assign_job"), there.count("assign_job")], SOON).toEqual([4, 4]);
});

test("a server that stops leaves its workers to the other, with what they run", async () => {
  const { here, comeThere } = await wanderer();
  await bench.addBuild("a");
  here.send({ type: "request_job", kind: "build", group: 0, free: 1 });
  const { attempt } = await here.next("assign_job");

  await bench.hub.close();

  expect(here.closed).toBe("the server is stopping");
  expect(await comeThere().register({ attempts: [attempt] })).toEqual([attempt]);
});
