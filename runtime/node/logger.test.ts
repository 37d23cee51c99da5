import { expect, test } from "vitest";
import { type LogLevels, readConfig } from "./config.ts";
import { createLoggers, type LoggedError } from "./logger.ts";
import { inRequest } from "./request-context.ts";

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

test("GRADIENT_LOG_LEVEL is every part's level but for those that have one of their own", () => {
  const { config } = readConfig({
    GRADIENT_LOG_LEVEL: "error",
    GRADIENT_CACHE_LOG_LEVEL: "warn",
    GRADIENT_WEB_LOG_LEVEL: "info",
    GRADIENT_PROTO_LOG_LEVEL: "debug",
  });
  const { loggers, lines } = capture(config.logLevels);

  for (const part of ["main", "web", "cache", "proto", "scheduler"] as const) {
    for (const level of ["debug", "info", "warn", "error"] as const) loggers[part][level](level);
  }

  const written = (part: string) => lines().flatMap((line) => (line.part === part ? [line.message] : []));
  expect(written("main")).toEqual(["error"]);
  expect(written("scheduler")).toEqual(["error"]);
  expect(written("cache")).toEqual(["warn", "error"]);
  expect(written("web")).toEqual(["info", "warn", "error"]);
  expect(written("proto")).toEqual(["debug", "info", "warn", "error"]);
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

test("what looks like a secret is in no line, in whatever field or message it came", () => {
  const { loggers, lines } = capture();
  const error = new Error("GET https://u:hunter2@forge.example/x?token=t0psecret failed");

  loggers.main.warn("a request failed", { error, url: "/x?token=t0psecret&page=2", list: ["Bearer t0psecret-token"] });

  expect(JSON.stringify(lines())).not.toMatch(/t0psecret|hunter2/);
  expect(lines()[0]?.url).toBe("/x?token=[secret]&page=2");
});

test("what is logged while a request is answered carries its id, and what is logged beside it does not", async () => {
  const { loggers, lines } = capture();

  await inRequest("request-1", async () => {
    await Promise.resolve();
    loggers.main.info("inside");
  });
  loggers.main.info("outside");

  expect(lines().map(({ message, requestId }) => [message, requestId])).toEqual([
    ["inside", "request-1"],
    ["outside", undefined],
  ]);
});

test("errors are told of with their part and fields, also when the level hides nothing less", () => {
  const told: LoggedError[] = [];
  const loggers = createLoggers(LEVELS, { write: () => {} }, (error) => void told.push(error));

  loggers.cache.warn("not this");
  loggers.scheduler.with({ build: 7 }).error("this", { attempt: 1 });

  expect(told).toEqual([{ part: "scheduler", message: "this", fields: { build: 7, attempt: 1 } }]);
});

function capture(levels: LogLevels = LEVELS) {
  const texts: string[] = [];
  const loggers = createLoggers(levels, { write: (text) => void texts.push(text) });
  return { loggers, lines: () => texts.map((text) => JSON.parse(text) as Record<string, unknown>) };
}
