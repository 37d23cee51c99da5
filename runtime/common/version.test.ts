import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { VERSION } from "./version.ts";

test("the version that is written down is that of the release", async () => {
  const description = await readFile(new URL("../../package.json", import.meta.url), "utf8");
  expect(VERSION).toBe(JSON.parse(description).version);
});
