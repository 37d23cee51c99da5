import { expect, test } from "vitest";
import { EnvironmentReader } from "./reader.ts";
import { readUploadSettings } from "./uploads.ts";

test("limits of uploads are those of the options, and what is nonsense is said", () => {
  expect(readUploadSettings(new EnvironmentReader({}))).toEqual({ narBytesMax: 536_870_912, unfinishedMs: 86_400_000 });
  const set = { GRADIENT_MAX_NAR_UPLOAD_SIZE: "4294967296", GRADIENT_NAR_PARTIAL_TTL_SECS: "0" };
  expect(readUploadSettings(new EnvironmentReader(set))).toEqual({ narBytesMax: 4_294_967_296, unfinishedMs: 0 });
  const reader = new EnvironmentReader({ GRADIENT_MAX_NAR_UPLOAD_SIZE: "0", GRADIENT_NAR_PARTIAL_TTL_SECS: "-1" });
  readUploadSettings(reader);
  expect(reader.problems).toHaveLength(2);
});
