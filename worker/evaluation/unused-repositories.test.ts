import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { DAY } from "#core/lib/clock.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { FolderLocks } from "./folder-locks.ts";
import { noteUse, removeUnusedRepositories } from "./unused-repositories.ts";

test("repositories that were not used for 30 days go, those of all organizations, and others stay", async () => {
  await using folder = await withTemporaryFolder();
  const now = new Date("2026-07-01T00:00:00Z");
  const ages = {
    "one/repositories/old": 31,
    "one/repositories/used": 29,
    "two/repositories/old": 400,
    "two/home": 400,
  };
  for (const [path, days] of Object.entries(ages)) {
    await mkdir(join(folder.path, path, ".git"), { recursive: true });
    await noteUse(join(folder.path, path), new Date(now.getTime() - days * DAY));
  }
  await writeFile(join(folder.path, "file"), "");

  expect(await removeUnusedRepositories(folder.path, new FolderLocks(), now)).toBe(2);
  expect(await readdir(join(folder.path, "one/repositories"))).toEqual(["used"]);
  expect((await readdir(join(folder.path, "two"))).sort()).toEqual(["home", "repositories"]);
  expect(await readdir(join(folder.path, "two/repositories"))).toEqual([]);
});

test("a repository that is being fetched into is looked at afterwards, and then it has been used", async () => {
  await using folder = await withTemporaryFolder();
  const path = join(folder.path, "one/repositories/fetched");
  await mkdir(path, { recursive: true });
  await noteUse(path, new Date(0));
  const locks = new FolderLocks();
  const fetched = Promise.withResolvers<void>();
  const fetching = locks.run(path, () => fetched.promise.then(() => noteUse(path)));
  const removing = removeUnusedRepositories(folder.path, locks);
  fetched.resolve();
  await fetching;
  expect(await removing).toBe(0);
});

test("where nothing was evaluated yet there is nothing to remove", async () => {
  expect(await removeUnusedRepositories("/no/such/folder", new FolderLocks())).toBe(0);
});
