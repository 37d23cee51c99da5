import { expect, test } from "vitest";
import { systemClock } from "./clock.ts";
import { GroupQueue, type GroupQueueOptions, GroupQueues, QueueFullError } from "./group-queue.ts";

/** Each group waits until it is let go. */
function slowQueue(options: Partial<GroupQueueOptions<string, string>> = {}) {
  const groups: (readonly string[])[] = [];
  const gates: (() => void)[] = [];
  const queue = new GroupQueue<string, string>({
    handle: async (items) => {
      groups.push(items);
      await new Promise<void>((resolve) => gates.push(resolve));
      if (items.includes("bad")) throw new Error("one of them is bad");
      if (items.includes("away")) throw new Error("the database is away");
      return items.map((item) => `${item} done`);
    },
    concernsAll: (error) => (error as Error).message.includes("away"),
    groupMax: 10,
    waitingMax: 100,
    ...options,
  });
  const release = async () => {
    await expect.poll(() => gates.length).toBeGreaterThan(0);
    gates.shift()?.();
  };
  return { queue, groups, release };
}

test("what comes while a group is under way goes into the next one, in order, and each is told its own", async () => {
  const { queue, groups, release } = slowQueue();
  const first = queue.add("a");
  await expect.poll(() => groups.length).toBe(1);
  const others = ["b", "c", "d"].map((item) => queue.add(item));
  await release();
  expect(await first).toBe("a done");
  await release();
  expect(await Promise.all(others)).toEqual(["b done", "c done", "d done"]);
  expect(groups).toEqual([["a"], ["b", "c", "d"]]);
});

test("a bad item fails alone: its neighbours are handled once more without it, in their order", async () => {
  const { queue, groups, release } = slowQueue();
  const all = ["a", "bad", "b"].map((item) => queue.add(item));
  for (let times = 0; times < 4; times++) await release();
  const settled = await Promise.allSettled(all);
  expect(settled.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(groups).toEqual([["a", "bad", "b"], ["a"], ["bad"], ["b"]]);
});

test("what concerns all is tried once, not once for each", async () => {
  const { queue, groups, release } = slowQueue();
  const all = ["a", "away", "b"].map((item) => queue.add(item));
  await release();
  const settled = await Promise.allSettled(all);
  expect(settled.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
  expect(groups).toHaveLength(1);
});

test("a group and the queue have a size, and what is too much is refused at once", async () => {
  const { queue, groups, release } = slowQueue({ groupMax: 2, waitingMax: 3 });
  const first = queue.add("a");
  await expect.poll(() => groups.length).toBe(1);
  const waiting = ["b", "c", "d"].map((item) => queue.add(item));
  await expect(queue.add("e")).rejects.toThrow(QueueFullError);
  for (let times = 0; times < 3; times++) await release();
  await Promise.all([first, ...waiting]);
  expect(groups).toEqual([["a"], ["b", "c"], ["d"]]);
});

test("one key does not wait for another", async () => {
  const blocked = Promise.withResolvers<void>();
  const queues = new GroupQueues<string, string>({
    handle: async (key, items) => {
      if (key === "slow") await blocked.promise;
      return items;
    },
    concernsAll: () => false,
    groupMax: 10,
    waitingMax: 100,
  });
  const slow = queues.add("slow", "a");
  expect(await queues.add("quick", "b")).toBe("b");
  blocked.resolve();
  expect(await slow).toBe("a");
});

test("what comes alone does not wait; what comes shortly after it goes together, unless it fills a group", async () => {
  const pauses: (() => void)[] = [];
  const schedule = (_ms: number, action: () => void) => {
    pauses.push(action);
    return () => {};
  };
  const groups: (readonly string[])[] = [];
  let idle = 0;
  const queue = new GroupQueue<string, string>({
    handle: async (items) => {
      groups.push(items);
      return items;
    },
    concernsAll: () => false,
    groupMax: 2,
    waitingMax: 100,
    apart: { ms: 20, clock: { ...systemClock, monotonic: () => 0, schedule } },
  });
  queue.onIdle = () => idle++;
  expect(await queue.add("a")).toBe("a");
  const together = [queue.add("b")];
  await expect.poll(() => pauses.length).toBe(1);
  expect(groups).toEqual([["a"]]);
  together.push(queue.add("c"), queue.add("d"));
  pauses.shift()?.();
  await together[1];
  expect(groups).toEqual([["a"], ["b", "c"]]);
  await expect.poll(() => pauses.length).toBe(1);
  pauses.shift()?.();
  expect(await together[2]).toBe("d");
  expect(idle).toBe(0);
  await expect.poll(() => pauses.length).toBe(1);
  pauses.shift()?.();
  await expect.poll(() => idle).toBe(1);
});

/** Time passes only when it is told to; `pass` lets what is due begin. */
function patientQueue(groupMax: number) {
  let nowMs = 0;
  let timers: { readonly atMs: number; readonly action: () => void }[] = [];
  const schedule = (ms: number, action: () => void) => {
    const timer = { atMs: nowMs + ms, action };
    timers.push(timer);
    return () => {
      timers = timers.filter((one) => one !== timer);
    };
  };
  const settle = async () => {
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  };
  const pass = async (ms: number) => {
    nowMs += ms;
    const due = timers.filter(({ atMs }) => atMs <= nowMs);
    timers = timers.filter(({ atMs }) => atMs > nowMs);
    for (const { action } of due) action();
    await settle();
  };
  const groups: (readonly string[])[] = [];
  const queue = new GroupQueue<string, string>({
    handle: async (items) => {
      groups.push(items);
      return items;
    },
    concernsAll: () => false,
    groupMax,
    waitingMax: 100,
    apart: { ms: 20, patientMs: 60, clock: { ...systemClock, monotonic: () => nowMs, schedule } },
  });
  const add = async (item: string, isPatient: boolean) => {
    void queue.add(item, { isPatient });
    await settle();
  };
  return { groups, add, pass };
}

test("what can wait does so for others, but not for ever", async () => {
  const { groups, add, pass } = patientQueue(10);
  await add("a", true);
  await pass(30);
  await add("b", true);
  expect(groups).toEqual([]);
  await pass(30);
  expect(groups).toEqual([["a", "b"]]);
  await add("c", true);
  await pass(59);
  expect(groups).toHaveLength(1);
  await pass(1);
  expect(groups).toEqual([["a", "b"], ["c"]]);
});

test("what cannot wait takes along what waits, and so does what fills the group", async () => {
  const { groups, add, pass } = patientQueue(3);
  await add("a", true);
  await add("b", false);
  expect(groups).toEqual([["a", "b"]]);
  await pass(20);
  for (const item of ["c", "d", "e"]) await add(item, true);
  expect(groups).toEqual([
    ["a", "b"],
    ["c", "d", "e"],
  ]);
});
