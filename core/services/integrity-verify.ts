import type { DamageView } from "../api/admin-tasks.ts";
import { countNars, listNarsAfter } from "../db/nar-health.ts";
import { fromHex, toHex } from "../lib/bytes.ts";
import { SECOND } from "../lib/clock.ts";
import { Pace } from "../lib/pace.ts";
import { formatHash } from "../nix/hash.ts";
import type { TaskContext, TaskRun } from "./admin-task-run.ts";
import { beginRepair, type RepairProgress, type RepairTaskDeps, repairAll, repairReport } from "./integrity-repair.ts";
import { narOf } from "./nar.ts";
import { verifyAndRecord } from "./scrub.ts";

/** The API checked its form. */
export interface VerifyParameters {
  /** Null: everything that is stored. */
  readonly cache_id: string | null;
  readonly unpack: boolean;
  readonly repair: boolean;
  /** Null: as fast as it goes. */
  readonly bytes_per_second: number | null;
}

const CHUNK = 100;
/** Damages that a report names; all are counted. */
const DAMAGES_MAX = 200;
/** A crash repeats what was verified since. */
const RECORD_INTERVAL_MS: number = 2 * SECOND;

interface VerifyProgress {
  /** Hexadecimal digits of the hash that was looked at last. */
  after: string | null;
  total: number;
  verified: number;
  /** Of files. */
  bytes: number;
  /** Out of service before, and left alone. */
  damaged_before: number;
  damaged: number;
  damages: DamageView[];
  repair: RepairProgress | null;
}

/** `verify`, as `runTasks` runs it. */
export function verifyTask(deps: RepairTaskDeps): TaskRun {
  return async (context) => {
    const { after: _, repair, ...report } = await verifyAll(deps, context);
    return { ...report, repair: repair && repairReport(repair) };
  };
}

async function verifyAll(deps: RepairTaskDeps, context: TaskContext): Promise<VerifyProgress> {
  const { signal } = context;
  const parameters = context.parameters as unknown as VerifyParameters;
  const { cache_id: cacheId } = parameters;
  const progress = (context.progress as VerifyProgress | null) ?? (await beginVerify(deps, cacheId));
  const record = () => context.record({ ...progress });
  if (!(await verifyRows(deps, { parameters, progress, record, signal }))) return progress;
  if (!(await record()) || !parameters.repair) return progress;
  progress.repair ??= await beginRepair(deps, cacheId);
  await repairAll(deps, { cacheId, progress: progress.repair, record, signal });
  return progress;
}

/** False when it was stopped before the end. */
async function verifyRows(
  deps: RepairTaskDeps,
  {
    parameters,
    progress,
    record,
    signal,
  }: {
    readonly parameters: VerifyParameters;
    readonly progress: VerifyProgress;
    readonly record: () => Promise<boolean>;
    readonly signal: AbortSignal;
  },
): Promise<boolean> {
  const { cache_id: cacheId, unpack, bytes_per_second } = parameters;
  const pace = new Pace(deps.clock, bytes_per_second ?? Number.POSITIVE_INFINITY);
  let recordedMs = deps.clock.monotonic();
  for (;;) {
    const after = progress.after === null ? null : fromHex(progress.after);
    const rows = await listNarsAfter(deps.db, { after, cacheId, damaged: false, limit: CHUNK });
    for (const row of rows) {
      const nar = narOf(row);
      const damage = await verifyAndRecord(deps, nar, { unpack, pace, signal });
      if (signal.aborted) return false;
      progress.after = toHex(row.nar_hash);
      progress.verified++;
      progress.bytes += row.file_size;
      if (damage) {
        progress.damaged++;
        const named = { nar_hash: formatHash(nar.narHash, "nix32"), object: nar.objectKey, ...damage };
        if (progress.damages.length < DAMAGES_MAX) progress.damages.push(named);
      }
      if (deps.clock.monotonic() - recordedMs < RECORD_INTERVAL_MS) continue;
      if (!(await record())) return false;
      recordedMs = deps.clock.monotonic();
    }
    if (rows.length < CHUNK) return true;
  }
}

async function beginVerify({ db }: RepairTaskDeps, cacheId: string | null): Promise<VerifyProgress> {
  const total = await countNars(db, { cacheId, damaged: false });
  const damaged_before = await countNars(db, { cacheId, damaged: true });
  return { after: null, total, verified: 0, bytes: 0, damaged_before, damaged: 0, damages: [], repair: null };
}
