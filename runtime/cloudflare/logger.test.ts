import { afterEach, expect, test, vi } from "vitest";
import { createLogger } from "./logger.ts";

afterEach(() => vi.restoreAllMocks());

test("a line holds its fields, an error with its cause, and no secret", () => {
  const written = vi.spyOn(console, "warn").mockReturnValue();
  const error = new Error("outer", { cause: new Error("inner") });

  createLogger("info", { part: "cache" }).warn("it failed", { error, token: "hush", request: { password: "hush" } });

  const line = written.mock.calls[0]?.[0];
  expect(JSON.parse(line)).toMatchObject({
    level: "warn",
    part: "cache",
    message: "it failed",
    error: { message: "outer", cause: { message: "inner" } },
  });
  expect(line).not.toContain("hush");
});

test("what is below the level is not written", () => {
  const written = vi.spyOn(console, "info").mockReturnValue();
  createLogger("warn").info("all is well");
  expect(written).not.toHaveBeenCalled();
});
