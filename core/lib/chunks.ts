import { assert } from "./assert.ts";

/** The items in order, at most `size` at a time, and taken as they are needed. */
export function* chunksOf<T>(items: Iterable<T>, size: number): Generator<T[]> {
  assert(size > 0, "a chunk holds at least one item");
  let chunk: T[] = [];
  for (const item of items) {
    chunk.push(item);
    if (chunk.length < size) continue;
    yield chunk;
    chunk = [];
  }
  if (chunk.length > 0) yield chunk;
}
