import { readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";

/** Whether git made one there and was not interrupted: it writes the configuration last. */
export async function isRepository(folder: string): Promise<boolean> {
  const [head, config] = await Promise.all(
    ["HEAD", "config"].map((name) => readFile(join(folder, ".git", name), "utf8").catch(() => "")),
  );
  return head?.startsWith("ref: ") === true && config?.includes("repositoryformatversion") === true;
}

/** Locks and unfinished packs of a git that was killed: with them every later command fails, or the disk fills. */
export async function removeLeftovers(gitFolder: string): Promise<void> {
  const names = await readdir(gitFolder).catch(() => [] as string[]);
  const stale = names.filter((name) => name.endsWith(".lock")).map((name) => join(gitFolder, name));
  const packFolder = join(gitFolder, "objects", "pack");
  for (const name of await readdir(packFolder).catch(() => [] as string[])) {
    if (name.startsWith("tmp_")) stale.push(join(packFolder, name));
  }
  const refsFolder = join(gitFolder, "refs", "gradient");
  for (const name of await readdir(refsFolder).catch(() => [] as string[])) {
    if (name.endsWith(".lock")) stale.push(join(refsFolder, name));
  }
  for (const path of stale) await rm(path, { force: true });
}

/** Of all packs together. */
export async function packBytes(folder: string): Promise<number> {
  const packFolder = join(folder, ".git", "objects", "pack");
  let total = 0;
  for (const name of await readdir(packFolder).catch(() => [] as string[])) {
    total += (await stat(join(packFolder, name)).catch(() => null))?.size ?? 0;
  }
  return total;
}
