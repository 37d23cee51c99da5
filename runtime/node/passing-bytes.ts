import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Of bytes that passed, between two collections. */
const COLLECT_BYTES = 3 * 1024 * 1024;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as (options: { readonly type: "minor" }) => void;
setFlagsFromString("--no-expose-gc");

let passed = 0;

/**
 * To be told of each chunk of a body that this process is done with soon. The memory of chunks is not V8's own: by
 * itself it lets some 64 MB of them become garbage before it looks. Asked to look at the young ones every 3 MiB it
 * holds a few MB, at 0.3 ms a time.
 *
 * What has not been collected also counts towards the size at which V8 looks at the whole heap, which may be as little
 * as 10 MB beyond what is in use. With 8 MiB an upload of 200 MB met none or some thirty such collections, and they
 * took as much processor time as everything else that the upload needs.
 */
export function notePassing(bytes: number): void {
  passed += bytes;
  if (passed < COLLECT_BYTES) return;
  passed = 0;
  collectGarbage({ type: "minor" });
}
