import { ActivityType, ResultType } from "./numbers.ts";

export type EventField = number | string;

/**
 * What the daemon tells while it works. Ids of activities carry a process id in their upper half and exceed 2^53 on
 * machines with large process ids, hence `bigint`.
 */
export type DaemonEvent =
  | { readonly kind: "message"; readonly text: string }
  | ({ readonly kind: "start" } & Activity)
  | { readonly kind: "stop"; readonly id: bigint }
  | { readonly kind: "result"; readonly id: bigint; readonly type: number; readonly fields: readonly EventField[] };

export interface Activity {
  readonly id: bigint;
  /** 0 when there is none. */
  readonly parent: bigint;
  /** One of `Verbosity`. */
  readonly level: number;
  /** One of `ActivityType`, or a number that a newer Nix added. */
  readonly type: number;
  readonly text: string;
  readonly fields: readonly EventField[];
}

/** The next event is read when the handler is done: a slow handler slows the build and takes no memory. */
export type DaemonEventHandler = (event: DaemonEvent) => void | Promise<void>;

/** A line that a builder or the post-build hook wrote (no newline; colours are kept), or null for any other event. */
export function buildLogLine(event: DaemonEvent): string | null {
  if (event.kind !== "result") return null;
  if (event.type !== ResultType.buildLogLine && event.type !== ResultType.postBuildLogLine) return null;
  const line = event.fields[0];
  return typeof line === "string" ? line : null;
}

/** The phase that a builder entered, or null for any other event. */
export function buildPhase(event: DaemonEvent): string | null {
  if (event.kind !== "result" || event.type !== ResultType.setPhase) return null;
  const phase = event.fields[0];
  return typeof phase === "string" ? phase : null;
}

/** Whether the build waits for a lock: another connection builds the same output (Nix polls every 5 seconds). */
export function isBuildWaiting(event: DaemonEvent): boolean {
  return event.kind === "start" && event.type === ActivityType.buildWaiting;
}
