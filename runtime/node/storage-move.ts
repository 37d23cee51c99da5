import { createHash } from "node:crypto";
import { Semaphore } from "#core/lib/semaphore.ts";
import type { ByteStream } from "#core/lib/streams.ts";
import type { BlobStore, ObjectPage, StoredObject } from "#core/ports/blob-store.ts";
import { compareKeys } from "#core/ports/object-key.ts";

export interface StorageMove {
  readonly from: BlobStore;
  readonly to: BlobStore;
  /** How far earlier runs have proven what they copied; null: nothing is. */
  readonly proven: string | null;
  /** Everything up to this key is in place, and proven. Not said of an object that could not be moved or later ones. */
  readonly arrived: (key: string) => Promise<void>;
  readonly failed: (key: string, error: unknown) => void;
  readonly signal: AbortSignal;
}

export interface MoveResult {
  readonly copied: number;
  readonly copiedBytes: number;
  /** What was there already, whole and with the same bytes. */
  readonly found: number;
  readonly failed: number;
}

/** Large ones of S3 take the time of their bytes, small ones that of their requests. */
const OBJECTS_UNDER_WAY_MAX = 8;

/**
 * Copies every object, reads each copy once more and compares its SHA-256 with that of what was read for copying. What
 * an earlier run left behind half-proven is proven; what lies in the way with other bytes is an error, as nothing tells
 * which of them is right. What is deleted meanwhile is gone from both at the end.
 */
export async function moveObjects(move: StorageMove): Promise<MoveResult> {
  const { from, signal } = move;
  const result = { copied: 0, copiedBytes: 0, found: 0, failed: 0 };
  const copies = new Walk(move.to);
  let isUnbroken = true;
  for (let after: string | null = ""; after !== null && !signal.aborted; ) {
    const page: ObjectPage = await from.list("", after);
    const room = new Semaphore(OBJECTS_UNDER_WAY_MAX);
    const moving: Promise<void>[] = [];
    for (const object of page.objects) {
      const copy = await copies.find(object.key);
      moving.push(room.run(async () => void (signal.aborted || (await moveOne(move, { object, copy, result })))));
    }
    await Promise.all(moving);
    const last = page.objects.at(-1)?.key;
    isUnbroken &&= result.failed === 0 && !signal.aborted;
    if (isUnbroken && last !== undefined && !isProven(move, last)) await move.arrived(last);
    after = page.next;
  }
  return result;
}

interface MovedObject {
  readonly object: StoredObject;
  readonly copy: StoredObject | null;
  readonly result: { -readonly [Count in keyof MoveResult]: MoveResult[Count] };
}

async function moveOne(move: StorageMove, { object, copy, result }: MovedObject): Promise<void> {
  const { key, size } = object;
  try {
    if (copy?.size === size && isProven(move, key)) result.found++;
    else if (copy) result.found += await proveCopy(move, key);
    else {
      const isMoved = await copyObject(move, key);
      result.copied += isMoved;
      result.copiedBytes += isMoved * size;
    }
  } catch (error) {
    result.failed++;
    move.failed(key, error);
  }
}

function isProven({ proven }: StorageMove, key: string): boolean {
  return proven !== null && compareKeys(key, proven) <= 0;
}

/** Answers 0 when the object was deleted meanwhile, else 1. */
async function proveCopy({ from, to }: StorageMove, key: string): Promise<0 | 1> {
  const source = await from.get(key);
  if (!source) return 0;
  const hash = createHash("sha256");
  for await (const chunk of source.body) hash.update(chunk);
  await requireSame(to, key, hash.digest("hex"));
  return 1;
}

async function copyObject({ from, to }: StorageMove, key: string): Promise<0 | 1> {
  const source = await from.get(key);
  if (!source) return 0;
  const hash = createHash("sha256");
  await to.put(key, hashed(source.body, hash));
  await requireSame(to, key, hash.digest("hex")).catch(async (error: unknown) => {
    // Ours, and wrong: the next run begins anew.
    await to.delete(key);
    throw error;
  });
  if (await from.head(key)) return 1;
  // It was deleted while it was copied.
  await to.delete(key);
  return 0;
}

async function* hashed(body: ByteStream, hash: { update(chunk: Uint8Array): unknown }): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    hash.update(chunk);
    yield chunk;
  }
}

async function requireSame(store: BlobStore, key: string, sha256: string): Promise<void> {
  const copy = await store.get(key);
  if (!copy) throw new Error("the copy is not there");
  const hash = createHash("sha256");
  for await (const chunk of copy.body) hash.update(chunk);
  if (hash.digest("hex") !== sha256) throw new Error("the two stores hold different bytes under this key");
}

/** Deletes in `from` what is in `to` with the same size; answers how many there were. Everything was proven before. */
export async function deleteMoved({ from, to, signal }: Pick<StorageMove, "from" | "to" | "signal">): Promise<number> {
  let deleted = 0;
  const copies = new Walk(to);
  for (let after: string | null = ""; after !== null && !signal.aborted; ) {
    const page: ObjectPage = await from.list("", after);
    for (const { key, size } of page.objects) {
      if ((await copies.find(key))?.size !== size) continue;
      await from.delete(key);
      deleted++;
    }
    after = page.next;
  }
  return deleted;
}

/** Finds objects in a listing, in the order of their keys. */
class Walk {
  readonly #store: BlobStore;
  #objects: readonly StoredObject[] = [];
  #index = 0;
  #next: string | null = "";

  constructor(store: BlobStore) {
    this.#store = store;
  }

  async find(key: string): Promise<StoredObject | null> {
    for (;;) {
      const object = this.#objects[this.#index];
      if (!object) {
        if (this.#next === null) return null;
        const page = await this.#store.list("", this.#next);
        [this.#objects, this.#index, this.#next] = [page.objects, 0, page.next];
        continue;
      }
      const order = compareKeys(object.key, key);
      if (order === 0) return object;
      if (order > 0) return null;
      this.#index++;
    }
  }
}
