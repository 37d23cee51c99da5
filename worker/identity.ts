import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isUuidV4, uuidV4 } from "#core/lib/ids.ts";
import { makeFolder } from "./folders.ts";

/** The worker's id cannot be read or kept. The message says where and what to do. */
export class IdentityError extends Error {
  override readonly name = "IdentityError";
}

const ID_FILE = "worker-id";

/**
 * The id under which the worker is registered: `given`, or the one kept in `dataDir/worker-id`, which is made (version
 * 4) at the first start. Throws `IdentityError` for a file that holds something else: a new id in its place would be a
 * worker that nobody registered.
 */
export async function loadWorkerId(dataDir: string, given: string | null): Promise<string> {
  if (given !== null) return given;
  const path = join(dataDir, ID_FILE);
  const text = await readIfThere(path);
  if (text === null) return await makeId(path);
  const id = text.trim().toLowerCase();
  if (isUuidV4(id)) return id;
  throw new IdentityError(
    `${path} does not hold a UUID of version 4: restore the id that the worker is registered under, or remove the ` +
      "file and register the new id",
  );
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw new IdentityError(`${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/** After a crash the file is whole or not there. */
async function makeId(path: string): Promise<string> {
  const id = uuidV4();
  const temporary = `${path}.${process.pid}.new`;
  try {
    await makeFolder(dirname(path), 0o700);
    await rm(temporary, { force: true });
    {
      await using file = await open(temporary, "wx", 0o644);
      await file.writeFile(`${id}\n`);
      await file.sync();
    }
    await rename(temporary, path);
    await using folder = await open(dirname(path), "r");
    await folder.sync();
    return id;
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw new IdentityError(
      `the worker's id cannot be kept in ${path} (${messageOf(error)}): make the folder writable for this user, name ` +
        "another one in GRADIENT_WORKER_DATA_DIR, or set GRADIENT_WORKER_ID",
      { cause: error },
    );
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
