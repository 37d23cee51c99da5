import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import {
  parseCgroupPath,
  parseChildren,
  parseIoStat,
  parseProcessTimes,
  parseResidentBytes,
  parseUptime,
} from "./proc-files.ts";

test("a process is read whatever its command is called", () => {
  const rest = "S 812 1300 1300 0 -1 4194560 200 3000 0 0 5 6 77 88 20 0 1 0 334455 8000000 500 18446744073709551615";
  const expected = { parent: 812, childrenUserTicks: 77, childrenSystemTicks: 88, startedAtTicks: 334455 };
  for (const command of ["nix-daemon", "a) S 1 (b", "new\nline"]) {
    expect(parseProcessTimes(`1300 (${command}) ${rest}`)).toEqual({ command, ...expected });
  }
  for (const text of ["", "1300", "1300 (nix-daemon) S", "x y z"]) expect(parseProcessTimes(text)).toBeNull();
});

test.skipIf(process.platform !== "linux")("this process is read from the running kernel", () => {
  const own = parseProcessTimes(readFileSync("/proc/self/stat", "utf8"));
  expect(own?.parent).toBe(process.ppid);
  const uptime = parseUptime(readFileSync("/proc/uptime", "utf8")) as number;
  const age = uptime - (own?.startedAtTicks as number) / 100;
  expect(Math.abs(age - process.uptime())).toBeLessThan(5);
  expect(parseResidentBytes(readFileSync("/proc/self/status", "utf8"))).toBeGreaterThan(10_000_000);
});

test("what the kernel does not tell is nothing, and not a number", () => {
  expect(parseResidentBytes("Name:\tzombie\n")).toBe(0);
  expect(parseUptime("")).toBeNull();
  expect(parseChildren("")).toEqual([]);
  expect(parseChildren("12 345 ")).toEqual([12, 345]);
  expect(parseCgroupPath("4:memory:/x\n0::/nix.slice/build-uid-5\n")).toBe("/nix.slice/build-uid-5");
  expect(parseCgroupPath("4:memory:/x\n")).toBeNull();
  expect(parseCgroupPath("0::/../../etc\n")).toBeNull();
  expect(parseIoStat("8:0 rbytes=10 wbytes=20 rios=1 wios=2\n8:16 rbytes=5 wbytes=1\n")).toEqual({
    read: 15,
    written: 21,
  });
  expect(parseIoStat("")).toEqual({ read: 0, written: 0 });
});
