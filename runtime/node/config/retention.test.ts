import { expect, test } from "vitest";
import { HOUR } from "#core/lib/clock.ts";
import { ConfigError, readConfig } from "../config.ts";

test("without options paths stay for two weeks, and everything that is on its way for a day", () => {
  expect(readConfig({}).config.retention).toEqual({
    unusedMs: 336 * HOUR,
    orphanBuildMs: 24 * HOUR,
    uploadGraceMs: 24 * HOUR,
    silentHostMs: 2_160 * HOUR,
    intervalMs: HOUR,
  });
});

test("0 hours turn the TTL off, and no grace of an upload can be", () => {
  expect(readConfig({ GRADIENT_NAR_TTL_HOURS: "0" }).config.retention.unusedMs).toBe(0);
  expect(() => readConfig({ GRADIENT_NAR_UPLOAD_GRACE_HOURS: "0" })).toThrow(ConfigError);
});
