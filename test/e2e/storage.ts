import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Gradient } from "./gradient.ts";

/** Sizes of the objects that the server is writing, or was writing when it died. */
export async function unfinishedObjects({ storage }: Gradient): Promise<number[]> {
  return await sizesBelow(join(storage, ".unfinished"));
}

/** Sizes of the objects that are whole. */
export async function finishedObjects({ storage }: Gradient): Promise<number[]> {
  return await sizesBelow(join(storage, "nar"));
}

/** Flips one byte in the middle of the object that the narinfo's NAR is kept in. */
export async function damageObject({ storage }: Gradient, narInfo: string): Promise<void> {
  const narHash = /^NarHash: sha256:(.*)$/m.exec(narInfo)?.[1];
  const path = (await filesBelow(storage)).find((file) => narHash && file.includes(`/${narHash}@`));
  if (!path) throw new Error("the object was not found");
  const bytes = await readFile(path);
  const middle = Math.floor(bytes.length / 2);
  bytes[middle] = (bytes[middle] as number) ^ 0xff;
  await writeFile(path, bytes);
}

async function sizesBelow(folder: string): Promise<number[]> {
  const sizes = (await filesBelow(folder)).map(async (file) => {
    // An object that was unfinished a moment ago has another name now.
    const entry = await stat(file).catch(() => null);
    return entry ? [entry.size] : [];
  });
  return (await Promise.all(sizes)).flat();
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}
