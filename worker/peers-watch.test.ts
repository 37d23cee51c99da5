import { rename, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { watchPeers } from "./peers-watch.ts";

test("a peers file that is written, replaced, removed and made again is noticed each time", async () => {
  await using folder = await withTemporaryFolder();
  const file = join(folder.path, "peers");
  await writeFile(file, "one");
  let changes = 0;
  using _ = watchPeers({ file, text: null }, () => changes++, 20);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(changes).toBe(0);

  await writeFile(file, "another");
  await expect.poll(() => changes).toBe(1);
  const fresh = join(folder.path, "fresh");
  await writeFile(fresh, "another");
  await utimes(fresh, 1, 1);
  await rename(fresh, file);
  await expect.poll(() => changes).toBe(2);
  await rm(file);
  await expect.poll(() => changes).toBe(3);
  await writeFile(file, "another");
  await expect.poll(() => changes).toBe(4);
});

test("nothing is watched for tokens of the environment, nor after the end", async () => {
  await using folder = await withTemporaryFolder();
  const file = join(folder.path, "peers");
  let changes = 0;
  watchPeers({ file: null, text: "*:x" }, () => changes++, 20)[Symbol.dispose]();
  watchPeers({ file, text: null }, () => changes++, 20)[Symbol.dispose]();
  await writeFile(file, "one");
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(changes).toBe(0);
});
