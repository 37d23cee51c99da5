import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Bytes of V8's heap that what `make` returns keeps for each of its items. */
export function heapBytesOfEach(count: number, make: () => unknown): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  const before = process.memoryUsage().heapUsed;
  const made = [make()];
  collect();
  const bytes = process.memoryUsage().heapUsed - before;
  return made.length * (bytes / count);
}
