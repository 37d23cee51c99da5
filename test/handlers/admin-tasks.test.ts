import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { listActiveTasks } from "#core/db/admin-tasks.ts";
import { systemClock } from "#core/lib/clock.ts";
import { streamOf } from "#core/lib/streams.ts";
import { runTasks, type TaskRun } from "#core/services/admin-task-run.ts";
import { type RepairTaskDeps, repairTask } from "#core/services/integrity-repair.ts";
import { verifyTask } from "#core/services/integrity-verify.ts";
import { receiveNar } from "#core/services/nar-receive.ts";
import { type HarmableStore, memoryStore } from "../cache/damage.ts";
import { fileNar, localNotifier, narHashOf, randomContent } from "../cache/support.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let app: TestApp;
let root: TestUser;
let user: TestUser;
let store: HarmableStore;
let deps: RepairTaskDeps;
beforeAll(async () => {
  app = await withApp();
  root = await app.user("rhea", { superuser: true });
  user = await app.user("ursula");
});
afterAll(() => app[Symbol.asyncDispose]());
beforeEach(async () => {
  await sql`truncate nar, nar_file, nar_damage, admin_task, integrity_count cascade`.execute(app.db);
  store = memoryStore();
  deps = { ...app.deps, blobs: store.blobs, notifier: localNotifier(), clock: systemClock, workersWaitMs: 0 };
});

const never = new AbortController().signal;

async function put(content = randomContent(50_000)): Promise<string> {
  const nar = await fileNar(content);
  const upload = { narHash: await narHashOf(nar), narSize: nar.length, compression: "none" } as const;
  return (await receiveNar(deps, { ...upload, body: streamOf(nar) })).objectKey;
}

async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const answer = await app.ask(method, `/admin/${path}`, {
    token: root.token,
    ...(body === undefined ? {} : { body }),
  });
  return answer.body.message;
}

async function begin(kind: "verify" | "repair", body?: unknown): Promise<string> {
  const { task_id } = await ask<{ task_id: string }>("POST", `maintenance/${kind}`, body);
  return task_id;
}

interface Shown {
  readonly status: string;
  readonly cancelling: boolean;
  readonly report: Record<string, unknown>;
  readonly progress: Record<string, unknown>;
  readonly error: string | null;
  readonly created_by: string;
}

const show = (id: string) => ask<Shown>("GET", `tasks/${id}`);

/** As one server's loop does. */
async function work(
  tasks: Record<string, TaskRun> = { verify: verifyTask(deps), repair: repairTask(deps) },
  signal = never,
) {
  await runTasks({ ...deps, tasks }, signal);
}

test("a superuser has everything verified, and the report says what was found", async () => {
  const [sound, flipped, missing] = [await put(), await put(), await put()];
  await store.harm(flipped, "flip");
  await store.harm(missing, "delete");
  const answer = await app.ask("POST", "/admin/maintenance/verify", { token: root.token, body: {} });
  expect(answer.status).toBe(202);
  expect(answer.body.message).toEqual({ task_id: expect.any(String), status: "pending" });
  expect((await show((answer.body.message as { task_id: string }).task_id)).status).toBe("pending");

  await work();

  const [task] = await ask<Shown[]>("GET", "tasks");
  expect(task).toMatchObject({ kind: "verify", status: "completed", created_by: "rhea", error: null });
  expect(task?.report).toMatchObject({ total: 3, verified: 3, damaged: 2, damaged_before: 0, repair: null });
  const damages = task?.report.damages as { object: string; fault: string }[];
  expect(Object.fromEntries(damages.map(({ object, fault }) => [object, fault]))).toEqual({
    [flipped]: "file_hash",
    [missing]: "missing",
  });
  const known = await ask<{ damaged: number; nars: number; damages: { object: string; state: string }[] }>(
    "GET",
    "integrity",
  );
  expect(known).toMatchObject({ nars: 3, damaged: 2 });
  expect(known.damages.map(({ object }) => object)).not.toContain(sound);
});

test("a repair says what came back and what is left, and why", async () => {
  const [back, lost] = [await put(), await put()];
  const bytes = await store.bytes(back);
  for (const key of [back, lost]) await store.harm(key, "delete");
  const verify = await begin("verify");
  await work();
  await store.putBack(back, bytes);

  const repair = await begin("repair");
  await work();

  expect((await show(verify)).report).toMatchObject({ damaged: 2 });
  const { report } = await show(repair);
  expect(report).toMatchObject({ total: 2, storage: 1, upstream: 0, others: 0, left_total: 1 });
  expect(report.left).toEqual([
    {
      nar_hash: expect.stringMatching(/^sha256:/),
      object: lost,
      problem: expect.stringContaining("the object is missing"),
    },
  ]);
});

test("what is verified is repaired in the same go where that was asked for", async () => {
  const key = await put();
  const bytes = await store.bytes(key);
  let reads = 0;
  // Misread once.
  deps = {
    ...deps,
    blobs: { ...store.blobs, get: async (k) => (++reads === 1 ? null : await store.blobs.get(k)) },
  };
  const id = await begin("verify", { repair: true, unpack: false });
  await work();
  expect((await show(id)).report).toMatchObject({ damaged: 1, repair: { total: 1, storage: 1, left_total: 0 } });
  expect(await store.bytes(key)).toEqual(bytes);
});

test("one of a kind is under way at a time", async () => {
  await begin("verify");
  const again = await app.ask("POST", "/admin/maintenance/verify", { token: root.token, body: {} });
  expect([again.status, again.body.code]).toEqual([409, "conflict"]);
  await begin("repair");
  await work();
  await begin("verify");
  const both = Array.from({ length: 5 }, () =>
    app.ask("POST", "/admin/maintenance/repair", { token: root.token, body: {} }),
  );
  expect((await Promise.all(both)).filter(({ status }) => status === 202)).toHaveLength(1);
});

test("a task is cancelled: before it begins at once, while it runs soon, with a report of what it did", async () => {
  const waiting = await begin("verify");
  expect((await ask<Shown>("POST", `tasks/${waiting}/cancel`)).status).toBe("cancelled");
  const keys = [await put(), await put(), await put()];
  const running = await begin("verify");
  const reached = Promise.withResolvers<void>();
  let reads = 0;
  const stuck: RepairTaskDeps["blobs"]["get"] = async (key) => {
    if (++reads < keys.length) return await store.blobs.get(key);
    reached.resolve();
    const blob = await store.blobs.get(key);
    async function* slowly() {
      for (;;) {
        yield new Uint8Array(1);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    return blob && { ...blob, body: slowly() };
  };
  const verify = verifyTask({ ...deps, blobs: { ...store.blobs, get: stuck } });
  const working = work({ verify });
  await reached.promise;
  expect(await ask<Shown>("POST", `tasks/${running}/cancel`)).toMatchObject({ status: "running", cancelling: true });
  expect(app.notified).toContain(`task ${running}`);
  deps.notifier.notify("task", running);
  await working;

  expect(await show(running)).toMatchObject({
    status: "cancelled",
    cancelling: false,
    report: { verified: 2, damaged: 0 },
  });
  const late = await app.ask("POST", `/admin/tasks/${running}/cancel`, { token: root.token });
  expect([late.status, late.body.message]).toEqual([409, "the task has ended: it is cancelled"]);
});

test("a task goes on on another server where the one that stopped had recorded it", async () => {
  const seen: unknown[] = [];
  const stopping = new AbortController();
  const task: TaskRun = async ({ progress, record, signal }) => {
    seen.push(progress);
    await record({ after: seen.length });
    if (seen.length === 1) stopping.abort();
    return signal.aborted ? { half: true } : { whole: true };
  };
  const id = await begin("repair");
  await work({ repair: task }, stopping.signal);
  expect((await show(id)).status).toBe("running");
  await work({ repair: task });
  expect(seen).toEqual([null, { after: 1 }]);
  expect(await show(id)).toMatchObject({ status: "completed", report: { whole: true } });
  expect(await listActiveTasks(app.db)).toEqual([]);
});

test("a task that fails says so, and nothing of what is inside", async () => {
  const id = await begin("repair");
  await work({
    repair: () => Promise.reject(new Error("select secret from table")),
  });
  expect(await show(id)).toMatchObject({ status: "failed", error: "it failed; the server's log says why" });
});

test("nobody but a superuser who is signed in sees or does any of this", async () => {
  const id = await begin("repair");
  const key = await app.ask("POST", "/user/keys", { token: root.token, body: { name: "k", permissions: ["viewOrg"] } });
  const calls: [string, string][] = [
    ["POST", "maintenance/verify"],
    ["POST", "maintenance/repair"],
    ["GET", "integrity"],
    ["GET", "tasks"],
    ["GET", `tasks/${id}`],
    ["POST", `tasks/${id}/cancel`],
    ["GET", "tasks/018f0000-0000-7000-8000-000000000001"],
    ["POST", "tasks/018f0000-0000-7000-8000-000000000001/cancel"],
  ];
  for (const [method, path] of calls) {
    const as = async (token?: string) => await app.ask(method, `/admin/${path}`, token === undefined ? {} : { token });
    expect((await as()).status).toBe(401);
    for (const token of [user.token, key.body.message]) {
      expect((await as(token)).body).toMatchObject({ code: "superuser_required" });
    }
  }
  expect((await show(id)).status).toBe("pending");
});

test.each<[unknown, string]>([
  [{ unpack: "yes" }, "unpack: expected boolean"],
  [{ bytes_per_second: 10 }, "bytes_per_second: must be at least 65536 (64 KiB)"],
  [{ bytes_per_second: 1e99 }, "bytes_per_second"],
])("a body that is not valid is refused with words (%j)", async (body, message) => {
  const answer = await app.ask("POST", "/admin/maintenance/verify", { token: root.token, body });
  expect([answer.status, answer.body.code]).toEqual([400, "validation"]);
  expect(answer.body.message).toContain(message);
});

test("a cache that does not exist is not verified", async () => {
  const answer = await app.ask("POST", "/admin/maintenance/verify", { token: root.token, body: { cache: "nope" } });
  expect(answer.status).toBe(404);
});
