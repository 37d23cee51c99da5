import { expect, test } from "vitest";
import { ManualClock, settle } from "#test/support/manual-clock.ts";
import { serviceManagerOf, takeManagerPlace } from "./manager-place.ts";

const SOCKET = { NOTIFY_SOCKET: "/run/systemd/notify" };
const PASSED = { ...SOCKET, LISTEN_PID: "7", LISTEN_FDS: "2", LISTEN_FDNAMES: "http:notify" };

test("what the manager wants is read, and taken out of the environment that children may get", () => {
  const environment = { ...PASSED, WATCHDOG_USEC: "90000000", WATCHDOG_PID: "7", PATH: "/bin" };
  expect(takeManagerPlace(environment, 7)).toEqual({
    socket: "/run/systemd/notify",
    descriptor: 4,
    watchdogMs: 90_000,
  });
  expect(environment).toEqual({ PATH: "/bin" });
});

test.each([
  ["no socket", { WATCHDOG_USEC: "90000000" }, null],
  ["descriptors of another process", { ...PASSED, LISTEN_PID: "8" }, { descriptor: null, watchdogMs: null }],
  ["more names than descriptors", { ...PASSED, LISTEN_FDS: "1" }, { descriptor: null, watchdogMs: null }],
  ["no count of descriptors", { ...PASSED, LISTEN_FDS: "two" }, { descriptor: null, watchdogMs: null }],
  ["a watchdog for another process", { ...SOCKET, WATCHDOG_USEC: "9", WATCHDOG_PID: "8" }, { watchdogMs: null }],
  ["a watchdog for whoever is there", { ...SOCKET, WATCHDOG_USEC: "9000" }, { watchdogMs: 9 }],
  ["a watchdog of no time", { ...SOCKET, WATCHDOG_USEC: "0" }, { watchdogMs: null }],
  ["a watchdog of another kind of time", { ...SOCKET, WATCHDOG_USEC: "3s" }, { watchdogMs: null }],
])("%s", (_, environment, expected) => {
  const place = takeManagerPlace({ ...environment }, 7);
  if (expected === null) expect(place).toBe(null);
  else expect(place).toMatchObject(expected);
});

test.each([
  ["over the connection that it has", PASSED, ["write 4 READY=1\nSTATUS=up"]],
  ["by systemd-notify", SOCKET, ["systemd-notify READY=1 STATUS=up of /run/systemd/notify:/bin"]],
  ["to nobody", {}, []],
])("a message goes %s", async (_, environment, expected) => {
  const done: string[] = [];
  const manager = serviceManagerOf(
    { ...environment, PATH: "/bin" },
    {
      pid: 7,
      write: async (descriptor, text) => done.push(`write ${descriptor} ${text}`),
      run: async (command, args, { NOTIFY_SOCKET, PATH }) =>
        done.push(`${command} ${args.join(" ")} of ${NOTIFY_SOCKET}:${PATH}`),
      clock: new ManualClock(),
      warn: (message) => done.push(message),
    },
  );
  manager.ready({ check: async () => {}, describe: () => "up" });
  await settle();
  expect(done).toEqual(expected);
});
