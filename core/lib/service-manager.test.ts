import { expect, test } from "vitest";
import { ManualClock, settle } from "#test/support/manual-clock.ts";
import { ServiceManager } from "./service-manager.ts";

const ALIVE = { check: async () => {}, describe: () => "serves" };

function managed({ watchdogMs = null as number | null, send = async () => {} } = {}) {
  const clock = new ManualClock();
  const sent: string[] = [];
  const warnings: string[] = [];
  const manager = new ServiceManager({
    watchdogMs,
    send: async (text) => {
      sent.push(text);
      await send();
    },
    clock,
    warn: (message, error) => warnings.push(`${message}: ${error instanceof Error ? error.message : error}`),
  });
  return { clock, sent, warnings, manager };
}

test("a process says that it is up once, and its status when it changes", async () => {
  const { clock, sent, manager } = managed();
  let workers = 1;
  manager.ready({ check: async () => {}, describe: () => `${workers}\nworkers` });
  await clock.advance(60_000);
  workers = 2;
  await clock.advance(60_000);
  expect(sent).toEqual(["READY=1\nSTATUS=1 workers", "STATUS=2 workers"]);
});

test("a third of the watchdog's time brings a sign of life, as long as all that must turn does", async () => {
  let answer: Promise<void> = Promise.resolve();
  const { clock, sent, warnings, manager } = managed({ watchdogMs: 90_000 });
  manager.ready({ check: () => answer, describe: () => "serves" });
  const signs = () => sent.filter((text) => text.includes("WATCHDOG=1")).length;
  await clock.advance(60_000);
  expect(signs()).toBe(3);

  const hanging = Promise.withResolvers<void>();
  answer = hanging.promise;
  await clock.advance(300_000);
  expect(signs()).toBe(3);
  answer = Promise.reject(new Error("a pool is lost"));
  answer.catch(() => {});
  hanging.resolve();
  await settle();
  expect(signs()).toBe(4);
  await clock.advance(30_000);
  expect([signs(), warnings]).toEqual([4, ["this process does not call itself alive: a pool is lost"]]);
});

test("a long part of the start is given its time, and no more than that", async () => {
  const { clock, sent, manager } = managed();
  const migrated = Promise.withResolvers<string>();
  const task = manager.during("migrating", () => migrated.promise);
  await clock.advance(25_000);
  const EXTENSION = "EXTEND_TIMEOUT_USEC=60000000";
  expect(sent).toEqual([`STATUS=migrating\n${EXTENSION}`, EXTENSION, EXTENSION]);
  migrated.resolve("done");
  expect(await task).toBe("done");
  await clock.advance(60_000);
  expect(sent).toHaveLength(3);
});

test("a stop is given time while it says that it needs some", async () => {
  const { clock, sent, manager } = managed();
  manager.ready(ALIVE);
  let left = 1;
  manager.stopping(
    () => `${left} left`,
    () => left > 0,
  );
  await clock.advance(10_000);
  left = 0;
  await clock.advance(30_000);
  expect(sent.slice(1)).toEqual([
    "STOPPING=1\nSTATUS=1 left\nEXTEND_TIMEOUT_USEC=60000000",
    "EXTEND_TIMEOUT_USEC=60000000",
    "STATUS=0 left",
  ]);
});

test("what could not be sent is told with the next word, and why not is said once", async () => {
  let isAway = true;
  const { clock, sent, warnings, manager } = managed({
    watchdogMs: 30_000,
    send: async () => {
      if (isAway) throw new Error("nobody listens");
    },
  });
  manager.ready(ALIVE);
  await clock.advance(35_000);
  expect(warnings).toEqual(["the service manager is not told how this process is doing: nobody listens"]);
  isAway = false;
  await clock.advance(10_000);
  expect(sent.slice(-2)).toContain("READY=1\nSTATUS=serves");
  expect(sent.at(-1)).toBe("WATCHDOG=1");
});

test("messages go one at a time, and a manager that takes none is not waited for at the end", async () => {
  const { clock, sent, manager } = managed({ send: () => new Promise(() => {}) });
  manager.ready(ALIVE);
  manager.stopping(() => "stops");
  await clock.advance(60_000);
  expect(sent).toHaveLength(1);
  let hasClosed = false;
  void manager.close().then(() => (hasClosed = true));
  await clock.advance(5_000);
  expect([hasClosed, clock.pending]).toEqual([true, 0]);
});

test("without a service manager nothing happens, and tasks are done all the same", async () => {
  const manager = new ServiceManager();
  expect(await manager.during("migrating", async () => "done")).toBe("done");
  manager.ready({ check: () => Promise.reject(new Error("asked")), describe: () => "serves" });
  manager.stopping(() => "stops");
  await manager.close();
});
