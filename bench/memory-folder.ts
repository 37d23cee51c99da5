import { mkdtemp, rm } from "node:fs/promises";

export interface MemoryFolder extends AsyncDisposable {
  readonly path: string;
}

/** An empty folder in memory, where the disk of this machine is not what is measured. */
export async function withMemoryFolder(): Promise<MemoryFolder> {
  const path = await mkdtemp("/dev/shm/gradient-bench-");
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
