import { opendir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { ObjectPage, StoredObject } from "#core/ports/blob-store.ts";
import { compareKeys, isObjectKey } from "#core/ports/object-key.ts";
import { hasCode } from "./files.ts";

export interface Listing {
  readonly prefix: string;
  readonly after: string;
  readonly pageObjects: number;
}

/** A page of what lies below `root`, whose files are named as `objectPath` says. */
export async function listFolder(root: string, { prefix, after, pageObjects }: Listing): Promise<ObjectPage> {
  const objects: StoredObject[] = [];
  for (const kind of await namesIn(root)) {
    // A whole folder is passed over when nothing in it can be meant.
    if (!mayHold(`${kind}/`, prefix, after)) continue;
    for (const shard of await namesIn(join(root, kind))) {
      if (!mayHold(`${kind}/${shard}`, prefix, after)) continue;
      const folder = join(root, kind, shard);
      for (const { key, file } of await keysIn(folder, kind, { prefix, after })) {
        const object = await describe(join(folder, file), key);
        if (object) objects.push(object);
        if (objects.length === pageObjects) return { objects, next: key };
      }
    }
  }
  return { objects, next: null };
}

/** Whether keys that begin with `start` can begin with `prefix` and come after `after`. */
function mayHold(start: string, prefix: string, after: string): boolean {
  if (!start.startsWith(prefix) && !prefix.startsWith(start)) return false;
  return compareKeys(start, after.slice(0, start.length)) >= 0;
}

async function namesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(unlessAbsent);
  const names = (entries ?? []).filter((entry) => entry.isDirectory() && !entry.name.startsWith("."));
  // `nar` and `nar-old` are ordered as their keys are, which go on with a slash.
  return names.map(({ name }) => name).sort((a, b) => compareKeys(`${a}/`, `${b}/`));
}

async function keysIn(
  folder: string,
  kind: string,
  { prefix, after }: Pick<Listing, "prefix" | "after">,
): Promise<{ key: string; file: string }[]> {
  const found: { key: string; file: string }[] = [];
  const entries = await opendir(folder).catch(unlessAbsent);
  for await (const { name: file } of entries ?? []) {
    const key = `${kind}/${file.replaceAll("@", "/")}`;
    if (isObjectKey(key) && key.startsWith(prefix) && compareKeys(key, after) > 0) found.push({ key, file });
  }
  return found.sort((a, b) => compareKeys(a.key, b.key));
}

/** Null for what was deleted since its folder was read. */
async function describe(path: string, key: string): Promise<StoredObject | null> {
  const entry = await stat(path).catch(unlessAbsent);
  return entry?.isFile() ? { key, size: entry.size, storedAt: entry.mtime } : null;
}

function unlessAbsent(error: unknown): null {
  if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return null;
  throw error;
}
