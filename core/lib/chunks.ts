import { assert } from "./assert.ts";

/**
 * The items in order, at most `size` at a time, and taken as they are needed. A function is asked for the size of each
 * chunk when it begins.
 */
export function* chunksOf<T>(items: Iterable<T>, size: number | (() => number)): Generator<T[]> {
  let chunk: T[] = [];
  let sizeMax = 0;
  for (const item of items) {
    if (chunk.length === 0) sizeMax = typeof size === "number" ? size : size();
    assert(sizeMax > 0, "a chunk holds at least one item");
    chunk.push(item);
    if (chunk.length < sizeMax) continue;
    yield chunk;
    chunk = [];
  }
  if (chunk.length > 0) yield chunk;
}
