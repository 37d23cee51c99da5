import { expect, test } from "vitest";
import { OutputLocks } from "./output-locks.ts";

const nobody = new AbortController().signal;
const ignore = () => {};

test("who shares a name waits and is told so, who does not goes on", async () => {
  const locks = new OutputLocks();
  const unlock = await locks.acquire(["a", "b"], nobody, () => expect.unreachable());
  (await locks.acquire(["c"], nobody, () => expect.unreachable()))();

  const order: string[] = [];
  const second = locks
    .acquire(["b", "d"], nobody, () => order.push("waits"))
    .then((free) => {
      order.push("has it");
      return free;
    });
  order.push("unlocks");
  unlock();
  unlock();
  (await second)();
  expect(order).toEqual(["waits", "unlocks", "has it"]);
});

test("names taken crosswise never lock each other out", async () => {
  const locks = new OutputLocks();
  let running = 0;
  const work = async (names: string[]) => {
    const unlock = await locks.acquire(names, nobody, ignore);
    expect(++running).toBe(1);
    await Promise.resolve();
    running--;
    unlock();
  };
  await Promise.all(Array.from({ length: 20 }, (_, index) => work(index % 2 ? ["a", "b"] : ["b", "a"])));
});

test("an abort ends the waiting and takes nothing", async () => {
  const locks = new OutputLocks();
  const abort = new AbortController();
  const unlock = await locks.acquire(["a"], nobody, ignore);
  const waiting = locks.acquire(["a"], abort.signal, ignore);
  abort.abort(new Error("enough"));
  await expect(waiting).rejects.toThrow("enough");
  unlock();
  (await locks.acquire(["a"], nobody, () => expect.unreachable()))();
});
