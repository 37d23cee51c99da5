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
    if (codeOf(error) !== "ENOENT") throw error;
    const above = dirname(path);
    // Somebody else may have made it in this moment: then the second try tells.
    if (!(await isThere(above))) await makeFolder(above, mode);
    await mkdir(path, { mode }).catch((again: unknown) => {
      if (codeOf(again) !== "EEXIST") throw again;
    });
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
