import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { isPlainFile, isPlainFolder, readPlainFile } from "./plain-file.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "gradient-test-"));
  await writeFile(join(folder, "file"), "content");
  await symlink(join(folder, "file"), join(folder, "link"));
  await symlink("/dev/zero", join(folder, "endless"));
  await mkdir(join(folder, "folder"));
  await symlink(join(folder, "folder"), join(folder, "folder-link"));
  execFileSync("mkfifo", [join(folder, "pipe")]);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("a file is read up to the limit", async () => {
  expect((await readPlainFile(join(folder, "file"), 7)).toString()).toBe("content");
  await expect(readPlainFile(join(folder, "file"), 6)).rejects.toThrow("it is larger than 6 bytes");
});

test("neither a link nor a pipe nor a folder is read", async () => {
  await expect(readPlainFile(join(folder, "link"), 100)).rejects.toThrow("it is a link");
  await expect(readPlainFile(join(folder, "endless"), 100)).rejects.toThrow("it is a link");
  await expect(readPlainFile(join(folder, "pipe"), 100)).rejects.toThrow("it is no file");
  await expect(readPlainFile(join(folder, "folder"), 100)).rejects.toThrow("it is no file");
  await expect(readPlainFile(join(folder, "absent"), 100)).rejects.toMatchObject({ code: "ENOENT" });
});

test("links are neither files nor folders", async () => {
  const names = ["file", "link", "folder", "folder-link", "absent"];
  const are = (is: (path: string) => Promise<boolean>) => Promise.all(names.map((name) => is(join(folder, name))));
  expect(await are(isPlainFile)).toEqual([true, false, false, false, false]);
  expect(await are(isPlainFolder)).toEqual([false, false, true, false, false]);
});
