import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { isUuidV4 } from "#core/lib/ids.ts";
import { IdentityError, loadWorkerId } from "#worker/identity.ts";
import { withTemporaryFolder } from "../support/temporary-folder.ts";

const ID = "550e8400-e29b-41d4-a716-446655440001";

test("a worker makes its id at the first start and keeps it", async () => {
  await using folder = await withTemporaryFolder();
  const dataDir = join(folder.path, "not", "there", "yet");

  const first = await loadWorkerId(dataDir, null);
  const second = await loadWorkerId(dataDir, null);

  expect(isUuidV4(first)).toBe(true);
  expect(second).toBe(first);
  expect(await readFile(join(dataDir, "worker-id"), "utf8")).toBe(`${first}\n`);
  expect(await readdir(dataDir)).toEqual(["worker-id"]);
});

test("an id that is given is not written down", async () => {
  await using folder = await withTemporaryFolder();

  expect(await loadWorkerId(folder.path, ID)).toBe(ID);
  expect(await readdir(folder.path)).toEqual([]);
});

test.each(["", "nonsense\n", "550e8400-e29b-11d4-a716-446655440001\n", `${ID} ${ID}\n`])(
  "a file with %j is never replaced by a new id",
  async (content) => {
    await using folder = await withTemporaryFolder();
    const path = join(folder.path, "worker-id");
    await writeFile(path, content);

    await expect(loadWorkerId(folder.path, null)).rejects.toThrow(`${path} does not hold a UUID of version 4`);
    expect(await readFile(path, "utf8")).toBe(content);
  },
);

test("an id written by hand may have capitals and white space around it", async () => {
  await using folder = await withTemporaryFolder();
  await writeFile(join(folder.path, "worker-id"), ` ${ID.toUpperCase()}\r\n`);

  expect(await loadWorkerId(folder.path, null)).toBe(ID);
});

test("a folder in which no id can be kept is named in the error", async () => {
  await using folder = await withTemporaryFolder();
  await writeFile(join(folder.path, "file"), "");
  await mkdir(join(folder.path, "taken", "worker-id"), { recursive: true });

  await expect(loadWorkerId(join(folder.path, "file"), null)).rejects.toThrow(IdentityError);
  await expect(loadWorkerId(join(folder.path, "taken"), null)).rejects.toThrow("cannot be read");
});
