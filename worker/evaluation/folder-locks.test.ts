import { expect, test } from "vitest";
import { FolderLocks } from "./folder-locks.ts";

test("tasks of one folder run one after the other, also behind one that failed, and others beside them", async () => {
  const locks = new FolderLocks();
  const done: string[] = [];
  const first = Promise.withResolvers<void>();
  const running = [
    expect(locks.run("a", () => first.promise.then(() => fail(done.push("a1"))))).rejects.toThrow("broken"),
    locks.run("a", async () => void done.push("a2")),
    locks.run("b", async () => void done.push("b1")),
  ];
  await running[2];
  expect(done).toEqual(["b1"]);
  first.resolve();
  await Promise.all(running);
  expect(done).toEqual(["b1", "a1", "a2"]);
});

function fail(_: unknown): never {
  throw new Error("broken");
}

test("who is aborted while it waits is told at once, and its task never runs", async () => {
  const locks = new FolderLocks();
  const first = Promise.withResolvers<void>();
  const running = locks.run("a", () => first.promise);
  const abort = new AbortController();
  let hasRun = false;
  const waiting = locks.run(
    "a",
    async () => {
      hasRun = true;
    },
    abort.signal,
  );
  abort.abort();
  await expect(waiting).rejects.toMatchObject({ code: "aborted" });
  first.resolve();
  await running;
  await locks.run("a", async () => {});
  expect(hasRun).toBe(false);
});
