import { access, mkdir } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Makes the folder and those above it that are missing. Node's own way never ends where a system refuses to make a
 * folder as if the one above were missing (/proc does).
 */
export async function makeFolder(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (codeOf(error) === "EEXIST") return;
    const above = dirname(path);
    if (codeOf(error) !== "ENOENT" || (await isThere(above))) throw error;
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

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : null;
}
