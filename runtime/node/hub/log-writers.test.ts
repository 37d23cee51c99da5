import { expect, test } from "vitest";
import { LogWriters } from "./log-writers.ts";

test("a log that was written, and one whose attempt was aborted, are kept no longer", async () => {
  const logs = new LogWriters();
  const written = Promise.withResolvers<void>();
  logs.add("written", written.promise);
  logs.add("aborted", new Promise(() => {}));
  logs.forget("aborted");
  await logs.ended("aborted");
  expect(logs.size).toBe(1);

  written.resolve();
  await logs.ended("written");
  expect(logs.size).toBe(0);
});

test("a second log of an attempt is waited for although the first has ended", async () => {
  const logs = new LogWriters();
  const second = Promise.withResolvers<void>();
  logs.add("attempt", Promise.resolve());
  logs.add("attempt", second.promise);
  await new Promise(setImmediate);
  expect(logs.size).toBe(1);

  second.resolve();
  await logs.ended("attempt");
  expect(logs.size).toBe(0);
});
