import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "#core/ports/logger.ts";
import { type AdvisoryLock, type HeldLock, tryAdvisoryLock } from "./advisory-lock.ts";
import type { ConnectionTarget } from "./pool.ts";

const LOCK_ID = 7_233_741;
/** The session of a server that was killed may outlive it by a moment. */
const TRIES = 10;
const PAUSE_MS = 500;
/** As long as this a lost connection may take to come back. */
const RECONNECT_TRIES = 120;

export interface ServerPlace {
  /** Resolves with the reason when the place was lost for good. */
  readonly lost: Promise<string>;
  release(): Promise<void>;
}

/**
 * Takes a server's place on this database: alone where its NARs are files on a disk of its own, or beside others that
 * share one storage. Throws with words for the operator when those who have a place do not allow it. A connection that
 * is lost is made anew, and the place with it.
 */
export async function takeServerPlace(
  target: ConnectionTarget,
  { shared, log }: { readonly shared: boolean; readonly log: Logger },
): Promise<ServerPlace> {
  const lock: AdvisoryLock = { id: LOCK_ID, shared, name: shared ? "shared server" : "sole server" };
  const closing = new AbortController();
  const first = await tryAgainAndAgain(target, lock, closing.signal);
  if (!first) throw new Error(shared ? REFUSED_SHARED : REFUSED_ALONE);

  let taken: Promise<HeldLock | null> = Promise.resolve(first);
  const keep = async (): Promise<string> => {
    for (;;) {
      const held = await taken;
      if (!held && !closing.signal.aborted) return "another server has taken over the database, or it does not answer";
      await held?.ended;
      if (closing.signal.aborted) return await new Promise(() => {});
      log.warn("the connection that holds this server's place was lost; it is made anew");
      taken = takeAgain(target, lock, closing.signal);
    }
  };
  const release = async (): Promise<void> => {
    closing.abort();
    // Also what is taken anew at this moment: left open, it would keep the process alive.
    await (await taken)?.release();
  };
  return { lost: keep(), release };
}

const REFUSED_ALONE =
  "another server is running on this database, and NARs on a local disk cannot be shared between servers: " +
  "stop the other server, give this one a database of its own, or set GRADIENT_SHARED_STORAGE_PATH on all of them " +
  "to a folder that each of them reaches, or GRADIENT_S3_BUCKET to one bucket";
const REFUSED_SHARED =
  "another server is running on this database that keeps NARs on a disk of its own: " +
  "stop it, and start it again with the same GRADIENT_SHARED_STORAGE_PATH or GRADIENT_S3_BUCKET as this one";

async function takeAgain(target: ConnectionTarget, lock: AdvisoryLock, signal: AbortSignal): Promise<HeldLock | null> {
  for (let attempt = 0; attempt < RECONNECT_TRIES && !signal.aborted; attempt++) {
    try {
      return await tryAgainAndAgain(target, lock, signal);
    } catch {
      await sleep(PAUSE_MS, undefined, { signal }).catch(() => {});
    }
  }
  return null;
}

/** Null when others have it; throws when the database does not answer. */
async function tryAgainAndAgain(
  target: ConnectionTarget,
  lock: AdvisoryLock,
  signal: AbortSignal,
): Promise<HeldLock | null> {
  for (let attempt = 1; attempt <= TRIES && !signal.aborted; attempt++) {
    const held = await tryAdvisoryLock(target, lock);
    if (held) return held;
    await sleep(PAUSE_MS, undefined, { signal }).catch(() => {});
  }
  return null;
}
