import { expect, test } from "vitest";
import type { LogLevels } from "./config.ts";
import { createLoggers } from "./logger.ts";

const LEVELS: LogLevels = { default: "info", web: "info", cache: "warn", proto: "debug", scheduler: "error" };

test("each part writes at its own level", () => {
  const { loggers, lines } = capture();
  for (const part of ["main", "web", "cache", "proto", "scheduler"] as const) {
    loggers[part].debug("d");
    loggers[part].info("i");
    loggers[part].warn("w");
    loggers[part].error("e");
  }

  const written = lines().map(({ part, message }) => `${part} ${message}`);
  expect(written).toEqual([
    ...["main i", "main w", "main e", "web i", "web w", "web e", "cache w", "cache e"],
    ...["proto d", "proto i", "proto w", "proto e", "scheduler e"],
  ]);
});

test("a line holds its fields, the error with its cause, and no secret", () => {
  const { loggers, lines } = capture();
  const error = new Error("outer", { cause: new Error("inner") });

  loggers.main
    .with({ requestId: "r1" })
    .error("it failed", { error, token: "t0psecret", user: { password: "hunter2" } });

  const [line] = lines();
  expect(line).toMatchObject({ level: "error", message: "it failed", requestId: "r1", part: "main" });
  expect(line?.time).toMatch(/^\d{4}-\d\d-\d\dT/);
  expect(JSON.stringify(line)).toContain("inner");
  expect(JSON.stringify(line)).not.toMatch(/t0psecret|hunter2/);
});

function capture() {
  const texts: string[] = [];
  const loggers = createLoggers(LEVELS, { write: (text) => void texts.push(text) });
  return { loggers, lines: () => texts.map((text) => JSON.parse(text) as Record<string, unknown>) };
}
