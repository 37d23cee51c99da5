/**
 * What is wrong with a stored NAR. `missing`: there is no object. `size`: it is shorter or longer. `file_hash`: its
 * bytes are others. `nar_hash`: its bytes are those that were stored, and unpack to something else. `unreadable`: the
 * store fails for this object, and for no other.
 */
export type NarFault = "missing" | "size" | "file_hash" | "nar_hash" | "unreadable";

/** Where the right bytes came from. `storage`: the object itself is right again. */
export type NarHealer = "storage" | "upstream" | "worker" | "push";

/** Names of what is counted since the beginning. Bytes are those of files. */
export type IntegrityCount = "verified" | "verified_bytes" | `damaged_${NarFault}` | `repaired_${NarHealer}`;

const MINUTE_MS = 60_000;
const RETRY_MS_MAX = 12 * 60 * MINUTE_MS;

/** How long a repair that was in vain rests before it is tried again: a minute first, at most half a day. */
export function repairPauseMs(attempts: number): number {
  return Math.min(MINUTE_MS * 2 ** Math.min(attempts - 1, 20), RETRY_MS_MAX);
}
