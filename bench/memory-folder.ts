import { mkdtemp, rm, statfs } from "node:fs/promises";

const MEMORY = "/dev/shm";

export interface MemoryFolder extends AsyncDisposable {
  readonly path: string;
}

/**
 * An empty folder in memory, where the disk of this machine is not what is measured. Throws where there is no room for
 * so many bytes.
 */
export async function withMemoryFolder(bytes = 0): Promise<MemoryFolder> {
  const { bavail, bsize } = await statfs(MEMORY);
  if (bavail * bsize < bytes) throw new Error(`${MEMORY} has ${bavail * bsize} bytes free, and ${bytes} are needed`);
  const path = await mkdtemp(`${MEMORY}/gradient-bench-`);
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
