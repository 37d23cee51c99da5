import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Of bytes that passed, between two collections. */
const COLLECT_BYTES = 8 * 1024 * 1024;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as (options: { readonly type: "minor" }) => void;
setFlagsFromString("--no-expose-gc");

let passed = 0;

/**
 * To be told of each chunk of a body that this process is done with soon. The memory of chunks is not V8's own: by
 * itself it lets some 64 MB of them become garbage before it looks. Asked to look at the young ones every 8 MiB it
 * holds a third of that. Measured with 600 MB over a WebSocket: a peak of 23 MB instead of 68, in 74 collections of
 * 0.9 ms.
 */
export function notePassing(bytes: number): void {
  passed += bytes;
  if (passed < COLLECT_BYTES) return;
  passed = 0;
  collectGarbage({ type: "minor" });
}
