import { countNars, listNarsAfter } from "../db/nar-health.ts";
import { findDamagedNar } from "../db/nar-repairs.ts";
import type { NarRow } from "../db/schema.ts";
import { fromHex, toHex } from "../lib/bytes.ts";
import { SECOND, sleep } from "../lib/clock.ts";
import { formatHash, parseHash } from "../nix/hash.ts";
import type { TaskRun } from "./admin-task-run.ts";
import { narOf } from "./nar.ts";
import type { NarRepairDeps } from "./nar-repair.ts";
import { attemptRepair } from "./nar-repairs.ts";

export interface RepairTaskDeps extends NarRepairDeps {
  /** How long a repair waits for workers, after everything else was tried. */
  readonly workersWaitMs: number;
}

const CHUNK = 100;
/** What is left, as far as a report names it; all of it is counted. */
const LEFT_MAX = 200;
const POLL_MS: number = SECOND;

export interface RepairProgress {
  /** Hexadecimal digits of the hash that was looked at last. */
  after: string | null;
  total: number;
  storage: number;
  upstream: number;
  /** By workers or a push, while the task waited, or before it came to them. */
  others: number;
  left: { readonly nar_hash: string; readonly object: string; readonly problem: string }[];
  left_total: number;
}

interface RepairOptions {
  /** Null: everything that is stored. */
  readonly cacheId: string | null;
  /** Is kept up to date. */
  readonly progress: RepairProgress;
  /** False when the task is to end. */
  readonly record: () => Promise<boolean>;
  readonly signal: AbortSignal;
}

/** `repair`, as `runTasks` runs it. */
export function repairTask(deps: RepairTaskDeps): TaskRun {
  return async ({ progress: known, record, signal }) => {
    const progress = (known as RepairProgress | null) ?? (await beginRepair(deps, null));
    await repairAll(deps, { cacheId: null, progress, record: () => record({ ...progress }), signal });
    return repairReport(progress);
  };
}

export function repairReport({ after: _, ...report }: RepairProgress): Readonly<Record<string, unknown>> {
  return report;
}

export async function beginRepair({ db }: RepairTaskDeps, cacheId: string | null): Promise<RepairProgress> {
  const total = await countNars(db, { cacheId, damaged: true });
  return { after: null, total, storage: 0, upstream: 0, others: 0, left: [], left_total: 0 };
}

/** Tries each damaged NAR, whenever it would be due. What is left is offered to workers. */
export async function repairAll(deps: RepairTaskDeps, options: RepairOptions): Promise<void> {
  const { cacheId, progress, record, signal } = options;
  for (;;) {
    const after = progress.after === null ? null : fromHex(progress.after);
    const rows = await listNarsAfter(deps.db, { after, cacheId, damaged: true, limit: CHUNK });
    for (const row of rows) {
      if (signal.aborted) return;
      await repairOne(deps, row, progress);
      progress.after = toHex(row.nar_hash);
      if (!(await record())) return;
    }
    if (rows.length < CHUNK) break;
  }
  if (progress.left_total === 0) return;
  deps.notifier.notify("damage", "all");
  await waitForWorkers(deps, options);
}

async function repairOne(deps: RepairTaskDeps, row: NarRow, progress: RepairProgress): Promise<void> {
  const damaged = await findDamagedNar(deps.db, row.nar_hash);
  if (!damaged) {
    progress.others++;
    return;
  }
  const outcome = await attemptRepair(deps, damaged);
  if ("problem" in outcome) {
    progress.left_total++;
    const left = { nar_hash: formatHash(narOf(row).narHash, "nix32"), object: row.object_key, ...outcome };
    if (progress.left.length < LEFT_MAX) progress.left.push(left);
  } else if (outcome.healedBy === "storage" || outcome.healedBy === "upstream") progress[outcome.healedBy]++;
  else progress.others++;
}

/** They may be at any server, and those that connect later are asked as well: this only waits for a report. */
async function waitForWorkers(deps: RepairTaskDeps, { cacheId, progress, signal }: RepairOptions): Promise<void> {
  const deadline = deps.clock.monotonic() + deps.workersWaitMs;
  for (;;) {
    const left = Math.min(progress.left_total, await countNars(deps.db, { cacheId, damaged: true }));
    progress.others += progress.left_total - left;
    progress.left_total = left;
    if (left === 0 || signal.aborted || deps.clock.monotonic() >= deadline) break;
    await sleep(deps.clock, POLL_MS, signal);
  }
  const still: RepairProgress["left"] = [];
  for (const entry of progress.left) {
    const hash = parseHash(entry.nar_hash);
    if (hash && (await findDamagedNar(deps.db, hash.digest))) still.push(entry);
  }
  progress.left = still;
}
