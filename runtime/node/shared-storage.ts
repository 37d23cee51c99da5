import { randomUUID } from "node:crypto";
import { link, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isUuid } from "#core/lib/ids.ts";
import { hasCode, makeFolder } from "./files.ts";

const NAME_FILE = "storage-id";

/**
 * What a folder of NARs is called, the same for every server that reaches it by whatever path: it holds its name in a
 * file, which the first server makes. Throws with words for the operator when the folder cannot be used.
 */
export async function nameSharedStorage(folder: string): Promise<string> {
  try {
    await makeFolder(folder, 0o700);
    const path = join(folder, NAME_FILE);
    return `the folder named ${(await readName(path)) ?? (await makeName(path))}`;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`the shared storage ${folder} cannot be used: ${reason}. See GRADIENT_SHARED_STORAGE_PATH`, {
      cause: error,
    });
  }
}

async function readName(path: string): Promise<string | null> {
  try {
    const name = (await readFile(path, "utf8")).trim();
    if (!isUuid(name)) throw new Error(`${path} does not hold the name that a server once wrote there`);
    return name;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  }
}

/** Whole or not at all: of two servers that begin at the same moment one gives the name. */
async function makeName(path: string): Promise<string> {
  const name = randomUUID();
  const draft = `${path}.${name}`;
  // On the disk before it is named: an empty name would keep every server from starting.
  await writeFile(draft, `${name}\n`, { flag: "wx", mode: 0o600, flush: true });
  try {
    await link(draft, path);
    return name;
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
    return (await readName(path)) as string;
  } finally {
    await rm(draft, { force: true });
  }
}
