import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseProcessTimes } from "./build/proc-files.ts";
import { killGroup } from "./evaluation/process.ts";

/**
 * Notes of evaluators, so that those of a worker that was killed can be ended by the next one: an evaluator at work
 * notices nothing of its worker's end, and may have gigabytes.
 */
export class LeftEvaluators {
  readonly #folder: string;

  constructor(dataDir: string) {
    this.#folder = join(dataDir, "evaluators");
  }

  /** The process leads a group. */
  async note(pid: number): Promise<void> {
    const status = await readStatus(pid);
    if (status === null) return;
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    await writeFile(join(this.#folder, String(pid)), status);
  }

  async forget(pid: number): Promise<void> {
    await rm(join(this.#folder, String(pid)), { force: true });
  }

  /**
   * Ends the groups that are noted, as far as they are still what they were: no process gets the id of a group that
   * lives, so that a leader which began at another time has another group.
   */
  async end(): Promise<number> {
    const names = await readdir(this.#folder).catch(() => [] as string[]);
    let ended = 0;
    for (const name of names.filter((one) => /^[1-9]\d{0,9}$/.test(one))) {
      if (await this.#endGroup(Number(name))) ended++;
    }
    return ended;
  }

  async #endGroup(pid: number): Promise<boolean> {
    const noted = await readFile(join(this.#folder, String(pid)), "utf8").catch(() => "");
    const leader = await readStatus(pid);
    await this.forget(pid);
    if (pid === process.pid) return false;
    const isOther = leader !== null && startOf(leader) !== startOf(noted);
    // Without a leader only a whole start of the machine could have given the id away: then no group has it.
    if (isOther || !(await hasMembers(pid))) return false;
    killGroup(pid);
    return true;
  }
}

async function hasMembers(group: number): Promise<boolean> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const statuses = await Promise.all(pids.map((pid) => readStatus(Number(pid))));
  // proc_pid_stat(5): behind the name in parentheses the state, the parent and the group.
  return statuses.some((status) => Number(/^.*\) \S+ \d+ (\d+) /s.exec(status ?? "")?.[1]) === group);
}

async function readStatus(pid: number): Promise<string | null> {
  return await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
}

function startOf(status: string): number | undefined {
  return parseProcessTimes(status)?.startedAtTicks;
}
