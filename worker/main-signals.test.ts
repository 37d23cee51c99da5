import { expect, test } from "vitest";
import { recordingLogger } from "#test/support/recording-logger.ts";
import { runUntilSignalled } from "./main-signals.ts";

function stoppable() {
  const calls: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    calls,
    run: () => promise,
    drain: async () => void calls.push("drain"),
    abort: async () => {
      calls.push("abort");
      resolve();
    },
    reload: async () => {
      calls.push("reload");
      if (calls.length > 1) throw new Error("the daemon is away");
    },
    state: () => ({ isConnected: true, isStopping: calls.includes("drain"), running: [] }),
  };
}

test.each(["SIGTERM", "SIGINT"] as const)(
  "the first %s lets a worker finish, the second one ends it",
  async (signal) => {
    const log = recordingLogger();
    const work = stoppable();
    const done = runUntilSignalled(work, log);
    process.emit(signal);
    await expect.poll(() => work.calls).toEqual(["drain"]);
    process.emit("SIGTERM");
    await done;

    expect(work.calls).toEqual(["drain", "abort"]);
    expect(process.listenerCount(signal)).toBe(0);
  },
);

test("SIGHUP has a worker look at its settings anew, and one that fails does no harm", async () => {
  const log = recordingLogger();
  const work = stoppable();
  const done = runUntilSignalled(work, log);
  process.emit("SIGHUP");
  process.emit("SIGHUP");
  await expect.poll(() => work.calls).toEqual(["reload", "reload"]);
  await expect.poll(() => log.lines.map(({ message }) => message)).toContain("what was set anew is not used");
  process.emit("SIGTERM");
  process.emit("SIGTERM");
  await done;

  expect(work.calls.slice(2)).toEqual(["drain", "abort"]);
});
