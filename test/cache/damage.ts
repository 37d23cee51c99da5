import { readFile, rm, truncate, writeFile } from "node:fs/promises";
import type { Clock } from "#core/lib/clock.ts";
import { systemClock } from "#core/lib/clock.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { memoryBlobs } from "#test/support/memory-blobs.ts";
import type { CacheBench } from "./support.ts";

export type Harm = "flip" | "cut" | "delete";

/** A store whose objects a test can harm as a failing disk would. */
export interface HarmableStore {
  readonly blobs: BlobStore;
  harm(key: string, harm: Harm): Promise<void>;
  /** The object's bytes, to be put back. */
  bytes(key: string): Promise<Uint8Array>;
  putBack(key: string, bytes: Uint8Array): Promise<void>;
  keys(): Promise<string[]>;
}

export function diskStore(bench: CacheBench): HarmableStore {
  const { blobs } = bench.deps;
  const fileOf = async (key: string): Promise<string> => {
    const id = key.split("/").at(-1) as string;
    const file = (await bench.objectFiles()).find((path) => path.endsWith(id));
    if (file === undefined) throw new Error(`there is no ${key}`);
    return file;
  };
  return {
    blobs,
    async harm(key, harm) {
      const file = await fileOf(key);
      if (harm === "delete") return await rm(file);
      const bytes = await readFile(file);
      if (harm === "cut") return await truncate(file, bytes.length - 1);
      await writeFile(file, flipped(bytes));
    },
    bytes: async (key) => await readFile(await fileOf(key)),
    putBack: async (key, bytes) => await writeFile(await fileOf(key), bytes),
    keys: () => listKeys(blobs),
  };
}

export function memoryStore(): HarmableStore {
  const objects = new Map<string, Uint8Array>();
  const blobs = memoryBlobs(objects);
  const bytesOf = (key: string): Uint8Array => {
    const bytes = objects.get(key);
    if (!bytes) throw new Error(`there is no ${key}`);
    return bytes;
  };
  return {
    blobs,
    async harm(key, harm) {
      const bytes = bytesOf(key);
      if (harm === "delete") objects.delete(key);
      else objects.set(key, harm === "cut" ? bytes.slice(0, -1) : flipped(bytes));
    },
    bytes: async (key) => bytesOf(key).slice(),
    putBack: async (key, bytes) => void objects.set(key, bytes),
    keys: () => listKeys(blobs),
  };
}

async function listKeys(blobs: BlobStore): Promise<string[]> {
  return (await blobs.list("nar/")).objects.map(({ key }) => key);
}

/** One byte in the middle is another. */
function flipped(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  const middle = Math.floor(copy.length / 2);
  copy[middle] = (copy[middle] as number) ^ 0x10;
  return copy;
}

/** Everything that takes time takes a hundredth of it. */
export const hurriedClock: Clock = {
  ...systemClock,
  schedule: (ms, action) => systemClock.schedule(ms / 100, action),
};
