import { assert } from "./assert.ts";

/**
 * The items in order, at most `size` at a time, and taken as they are needed. A function is asked for the size of each
 * chunk when it begins.
 */
export function* chunksOf<T>(items: Iterable<T>, size: number | (() => number)): Generator<T[]> {
  const nextSize = () => {
    const next = typeof size === "number" ? size : size();
    assert(next > 0, "a chunk holds at least one item");
    return next;
  };
  let chunk: T[] = [];
  let sizeMax = nextSize();
  for (const item of items) {
    chunk.push(item);
    if (chunk.length < sizeMax) continue;
    yield chunk;
    chunk = [];
    sizeMax = nextSize();
  }
  if (chunk.length > 0) yield chunk;
}
