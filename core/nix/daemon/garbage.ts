import type { StorePath } from "../store-path.ts";
import type { DaemonReader } from "./reader.ts";
import type { DaemonWriter } from "./writer.ts";

const ACTIONS = { listLive: 0, listDead: 1, deleteDead: 2, deletePaths: 3 } as const;

export interface GarbageRequest {
  readonly action: keyof typeof ACTIONS;
  /** What to delete; for `deletePaths` only, which fails on a path that is alive. */
  readonly paths?: readonly StorePath[];
  /** Stops once so much was freed. Absent: no limit. */
  readonly maxFreedBytes?: number;
}

export interface GarbageResult {
  /** Store paths that are live, dead or were deleted; also names of stray files in the store. */
  readonly paths: readonly string[];
  readonly freedBytes: number;
}

const NO_LIMIT = 0xffff_ffff_ffff_ffffn;

export function writeGarbageRequest(writer: DaemonWriter, request: GarbageRequest): void {
  writer
    .word(ACTIONS[request.action])
    .texts(request.paths ?? [])
    // Liveness is never ignored; the last three fields are obsolete.
    .boolean(false)
    .word(request.maxFreedBytes ?? NO_LIMIT)
    .word(0)
    .word(0)
    .word(0);
}

export async function readGarbageResult(reader: DaemonReader): Promise<GarbageResult> {
  const paths = await reader.texts("collected paths");
  const freedBytes = await reader.number("freed bytes");
  await reader.word();
  return { paths, freedBytes };
}
