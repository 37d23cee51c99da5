import { DomainError } from "#core/errors.ts";
import type { BlobStore, ObjectPage, StoredObject } from "#core/ports/blob-store.ts";
import { compareKeys } from "#core/ports/object-key.ts";

/**
 * A store that is moving from `old` to `fresh`: what is new goes to the fresh one, and what was not copied yet is found
 * in the old one. Meanwhile anybody may copy objects from the one to the other, and delete in the old one what is whole
 * in the fresh one.
 */
export function movingBlobStore(fresh: BlobStore, old: BlobStore): BlobStore {
  // An object that went while it was looked for in the old store is in the fresh one now.
  const find = async <Found>(look: (store: BlobStore) => Promise<Found | null>): Promise<Found | null> =>
    (await look(fresh)) ?? (await look(old)) ?? (await look(fresh));
  return {
    async put(key, body) {
      if (await old.head(key)) throw new DomainError("already_exists", "an object with this key exists");
      return await fresh.put(key, body);
    },
    get: (key, range) => find((store) => store.get(key, range)),
    head: (key) => find((store) => store.head(key)),
    async delete(key) {
      // The old one first: else it would be copied anew from there.
      await old.delete(key);
      await fresh.delete(key);
    },
    async list(prefix, after) {
      return merged(await Promise.all([fresh.list(prefix, after), old.list(prefix, after)]));
    },
    async copy(from, to, version) {
      if (await old.head(to)) throw new DomainError("already_exists", "an object with this key exists");
      const copied = await fresh.copy(from, to, version);
      if (copied) return copied;
      const blob = await old.get(from);
      if (!blob) return null;
      return await fresh.put(to, blob.body);
    },
    ...(fresh.presigned && { presigned: fresh.presigned }),
    async locate(key, lifetimeMs) {
      return await find(async (store) => (await store.locate?.(key, lifetimeMs)) ?? null);
    },
  };
}

/** Up to where both pages tell everything, and no longer than they are. */
function merged(pages: readonly ObjectPage[]): ObjectPage {
  const next = pages.flatMap((page) => page.next ?? []).toSorted(compareKeys)[0] ?? null;
  const found = new Map<string, StoredObject>();
  for (const object of pages.flatMap((page) => page.objects)) {
    const isTold = next === null || compareKeys(object.key, next) <= 0;
    if (isTold && !found.has(object.key)) found.set(object.key, object);
  }
  const all = [...found.values()].toSorted((a, b) => compareKeys(a.key, b.key));
  const objects = all.slice(0, Math.max(...pages.map((page) => page.objects.length)));
  return { objects, next: objects.length < all.length ? (objects.at(-1)?.key ?? null) : next };
}
