import { assert } from "../lib/assert.ts";

/**
 * Two to four names, none of which begins with a dot: a key can neither leave a store's folder nor reach its unfinished
 * files. The second name has two characters at least, by which a disk spreads its objects over folders.
 */
const KEY =
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,79}\/[A-Za-z0-9][A-Za-z0-9._-]{1,79}(?:\/[A-Za-z0-9][A-Za-z0-9._-]{0,79}){0,2}$/;
/** Nothing, or whole names. */
const PREFIX = /^(?:[A-Za-z0-9][A-Za-z0-9._-]{0,79}\/){0,3}$/;

/** Throws for what is not a key of an object: a mistake of ours, never something that came from outside. */
export function assertObjectKey(key: string): void {
  assert(KEY.test(key), `not a key of an object: ${JSON.stringify(key)}`);
}

export function isObjectKey(text: string): boolean {
  return KEY.test(text);
}

/** Throws for what keys cannot be listed by. */
export function assertKeyPrefix(prefix: string): void {
  assert(PREFIX.test(prefix), `not a prefix of keys: ${JSON.stringify(prefix)}`);
}

/** The order in which every store lists: that of the keys' bytes. Keys are ASCII. */
export function compareKeys(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
