import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { OrderedTasks } from "./ordered-tasks.ts";

async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await setImmediate();
}

test("tasks of one key run one after the other, those of another key do not wait for them", async () => {
  const done: string[] = [];
  const gate = Promise.withResolvers<void>();
  const tasks = new OrderedTasks(() => {});
  void tasks.run("a", () => gate.promise.then(() => void done.push("a1")));
  void tasks.run("a", async () => void done.push("a2"));
  void tasks.run("b", async () => void done.push("b1"));
  await settle();
  expect(done).toEqual(["b1"]);

  gate.resolve();
  await settle();
  expect(done).toEqual(["b1", "a1", "a2"]);
});

test("after a task that failed no later one of its key is run, and the failure is told once", async () => {
  const done: string[] = [];
  const failures: unknown[] = [];
  const tasks = new OrderedTasks((error) => failures.push(error));
  void tasks.run("a", async () => {
    throw new Error("not recorded");
  });
  void tasks.run("a", async () => void done.push("a2"));
  await settle();
  void tasks.run("a", async () => void done.push("a3"));
  void tasks.run("b", async () => void done.push("b1"));
  await settle();

  expect(done).toEqual(["b1"]);
  expect(failures).toEqual([new Error("not recorded")]);
});
