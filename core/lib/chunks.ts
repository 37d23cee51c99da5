import { assert } from "./assert.ts";

/** The items in order, at most `size` at a time. */
export function* chunksOf<T>(items: readonly T[], size: number): Generator<T[]> {
  assert(size > 0, "a chunk holds at least one item");
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size);
}
