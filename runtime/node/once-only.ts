import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "#core/ports/logger.ts";
import { tryAdvisoryLock } from "./advisory-lock.ts";
import type { ConnectionTarget } from "./pool.ts";

const LOCK_ID = 7_233_742;
const RETRY_MS = 2_000;

export interface OnceOnly {
  close(): Promise<void>;
}

/**
 * Work that only one of the servers on a database does, whichever takes the lock first; when that one ends or loses
 * its connection, another goes on. The signal is aborted when the lock is lost: the task must end soon, and what it
 * still does meanwhile must be safe beside its successor's.
 */
export function startOnceOnly(
  target: ConnectionTarget,
  log: Logger,
  task: (signal: AbortSignal) => Promise<void>,
): OnceOnly {
  const closing = new AbortController();
  const running = keepTrying(target, log, task, closing.signal);
  return {
    close: async () => {
      closing.abort();
      await running;
    },
  };
}

async function keepTrying(
  target: ConnectionTarget,
  log: Logger,
  task: (signal: AbortSignal) => Promise<void>,
  closing: AbortSignal,
): Promise<void> {
  while (!closing.aborted) {
    try {
      await runWhileHeld(target, task, closing);
    } catch (error) {
      log.warn("what only one server does failed; it begins again", { error });
    }
    await sleep(RETRY_MS, undefined, { signal: closing }).catch(() => {});
  }
}

async function runWhileHeld(
  target: ConnectionTarget,
  task: (signal: AbortSignal) => Promise<void>,
  closing: AbortSignal,
): Promise<void> {
  const held = await tryAdvisoryLock(target, { id: LOCK_ID, shared: false, name: "once-only work" });
  if (!held) return;
  const lost = new AbortController();
  void held.ended.then(() => lost.abort());
  const signal = AbortSignal.any([closing, lost.signal]);
  try {
    // Whoever was asked to end while it took the lock begins nothing: nobody tells a task of what was before it.
    if (!signal.aborted) await task(signal);
  } finally {
    await held.release();
  }
}
