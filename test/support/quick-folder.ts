import { spawnSync } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { freemem, tmpdir } from "node:os";
import { join } from "node:path";

const MEMORY_FOLDER = "/dev/shm";
/** statfs(2): TMPFS_MAGIC. */
const TMPFS = 0x01021994;
/** Several times what a run writes, so that neither it nor what else runs here is short of memory. */
const BYTES_MIN = 12 * 2 ** 30;

/**
 * Where a run puts its folder: what `TMPDIR` says, else in memory where there is plenty of it and programs may run,
 * else the machine's temporary folder. Tests make and remove databases and stores all the time, and a disk's file
 * system looks for room for each new file among all that was removed in the last seconds: that took a third of all
 * processors' time.
 */
export function quickFolder(): string {
  return process.env.TMPDIR === undefined && isRoomy(MEMORY_FOLDER) ? MEMORY_FOLDER : tmpdir();
}

export function isInMemory(path: string): boolean {
  return statfsSync(path).type === TMPFS;
}

function isRoomy(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    const { bavail, bsize } = statfsSync(folder);
    return isInMemory(folder) && Math.min(bavail * bsize, freemem()) >= BYTES_MIN && mayRunPrograms(folder);
  } catch {
    return false;
  }
}

/** It may be mounted `noexec`, as in most containers. */
function mayRunPrograms(parent: string): boolean {
  const folder = mkdtempSync(join(parent, "gradient-run-"));
  try {
    const program = join(folder, "program");
    writeFileSync(program, "#!/bin/sh\n", { mode: 0o700 });
    return spawnSync(program).status === 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
