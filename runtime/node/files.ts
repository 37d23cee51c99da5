import { access, type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/** Whether the error is the system's, with this code. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/** Replaces the file; after a crash it holds the old text or the new one, never a part. */
export async function writeFileAtomically(path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.${process.pid}.new`;
  try {
    await using file = await openNew(temporary, mode);
    await file.writeFile(text);
    await file.sync();
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/**
 * Makes the folder and those above it that are missing. Node's own way never ends where a system refuses to make a
 * folder as if the one above were missing (/proc does).
 */
export async function makeFolder(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (hasCode(error, "EEXIST")) return;
    const above = dirname(path);
    if (!hasCode(error, "ENOENT") || (await isThere(above))) throw error;
    await makeFolder(above, mode);
    await mkdir(path, { mode });
  }
}

function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Makes names that were added to or removed from the folder survive a power loss. */
export async function syncFolder(folder: string): Promise<void> {
  await using handle = await open(folder, "r");
  await handle.sync();
}

async function openNew(path: string, mode: number): Promise<FileHandle> {
  await rm(path, { force: true });
  return await open(path, "wx", mode);
}
