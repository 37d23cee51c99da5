import { access, constants } from "node:fs/promises";
import { makeFolder } from "./files.ts";
import { type FolderLock, lockFolder } from "./folder-lock.ts";

/**
 * Makes the folder where it is missing (mode 0700) and takes it for this process. Throws with words for the operator.
 */
export async function openBaseFolder(path: string): Promise<FolderLock> {
  try {
    await makeFolder(path, 0o700);
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(
      `the data folder ${path} cannot be used: ${reason}. Set GRADIENT_BASE_PATH to a folder to write to`,
      {
        cause: error,
      },
    );
  }
  const lock = lockFolder(path);
  if (lock) return lock;
  throw new Error(`another server is running on ${path}: stop it first, or set GRADIENT_BASE_PATH to another folder`);
}
