import { readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { DAY } from "#core/lib/clock.ts";
import type { FolderLocks } from "./folder-locks.ts";

export const REPOSITORIES_FOLDER = "repositories";

/** Projects go and change their address; what is missed is fetched again. */
const UNUSED_MS_MAX: number = 30 * DAY;

/** Its folder tells when a repository was used last. */
export async function noteUse(folder: string, now: Date = new Date()): Promise<void> {
  await utimes(folder, now, now);
}

/**
 * Removes the repositories of all organizations below `folder` that were not used for 30 days, and answers how many.
 * What cannot be removed stays for the next time.
 */
export async function removeUnusedRepositories(
  folder: string,
  locks: FolderLocks,
  now: Date = new Date(),
): Promise<number> {
  let removed = 0;
  for (const organization of await namesIn(folder)) {
    const repositories = join(folder, organization, REPOSITORIES_FOLDER);
    for (const name of await namesIn(repositories)) {
      const path = join(repositories, name);
      // Who fetches into it now has it to himself, and notes its use before anybody else looks.
      const isRemoved = await locks.run(path, () => removeUnused(path, now)).catch(() => false);
      if (isRemoved) removed++;
    }
  }
  return removed;
}

async function removeUnused(path: string, now: Date): Promise<boolean> {
  const { mtimeMs } = await stat(path);
  if (now.getTime() - mtimeMs <= UNUSED_MS_MAX) return false;
  await rm(path, { recursive: true, force: true });
  return true;
}

async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch(() => []);
}
