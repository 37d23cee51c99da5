import { chmod, lstat, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TemporaryFolder extends AsyncDisposable {
  readonly path: string;
}

/** A folder of its own, mode 0700, removed with all that is in it. */
export async function withTemporaryFolder(): Promise<TemporaryFolder> {
  const path = await mkdtemp(join(tmpdir(), "gradient-test-"));
  return { path, [Symbol.asyncDispose]: () => remove(path) };
}

/** Removes a folder with read-only ones in it, as in a Nix store: they keep an ordinary user from removing them. */
export async function removeTree(path: string): Promise<void> {
  await makeWritable(path);
  await remove(path);
}

/** A process that a test has ended may still be writing its last words. */
function remove(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}

async function makeWritable(path: string): Promise<void> {
  const info = await lstat(path).catch(() => null);
  if (!info?.isDirectory()) return;
  await chmod(path, 0o700).catch(() => {});
  for (const name of await readdir(path).catch(() => [])) await makeWritable(join(path, name));
}
