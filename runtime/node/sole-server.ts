import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Logger } from "#core/ports/logger.ts";
import { type ConnectionTarget, clientConfig } from "./pool.ts";

/** Any number, the same in every release; advisory locks are per database. */
const LOCK_ID = 7_233_741;
/** The session of a server that was killed may outlive it by a moment. */
const TRIES = 10;
const PAUSE_MS = 500;
/** As long as this a lost connection may take to come back. */
const RECONNECT_TRIES = 120;

export interface SoleServer {
  /** Resolves with the reason when the place was lost for good. */
  readonly lost: Promise<string>;
  release(): Promise<void>;
}

/**
 * Makes sure that no other server works on this database: files on a local disk are there for one server only. Throws
 * with words for the operator when there is another one. A connection that is lost is made anew, and the place with it.
 */
export async function becomeSoleServer(target: ConnectionTarget, log: Logger): Promise<SoleServer> {
  const closing = new AbortController();
  let session = await takePlace(target);
  if (!session) {
    throw new Error(
      "another server is running on this database, and NARs on a local disk cannot be shared between servers: " +
        "stop the other server, or give this one a database of its own",
    );
  }

  const keep = async (): Promise<string> => {
    for (;;) {
      await session?.ended;
      if (closing.signal.aborted) return await new Promise(() => {});
      log.warn("the connection that keeps other servers away was lost; it is made anew");
      session = await takePlaceAgain(target, closing.signal);
      if (!session && !closing.signal.aborted)
        return "another server has taken over the database, or it does not answer";
    }
  };
  const release = async (): Promise<void> => {
    closing.abort();
    await session?.client.end().catch(() => {});
  };
  return { lost: keep(), release };
}

interface Session {
  readonly client: pg.Client;
  readonly ended: Promise<void>;
}

async function takePlaceAgain(target: ConnectionTarget, signal: AbortSignal): Promise<Session | null> {
  for (let attempt = 0; attempt < RECONNECT_TRIES && !signal.aborted; attempt++) {
    try {
      return await takePlace(target);
    } catch {
      await sleep(PAUSE_MS, undefined, { signal }).catch(() => {});
    }
  }
  return null;
}

/** Null when somebody else has it; throws when the database does not answer. */
async function takePlace(target: ConnectionTarget): Promise<Session | null> {
  const client = new pg.Client(clientConfig(target, "sole server"));
  const ended = new Promise<void>((resolve) => {
    client.on("error", () => resolve());
    client.on("end", () => resolve());
  });
  try {
    await client.connect();
    for (let attempt = 1; attempt <= TRIES; attempt++) {
      const { rows } = await client.query<{ taken: boolean }>("select pg_try_advisory_lock($1) as taken", [LOCK_ID]);
      if (rows[0]?.taken) return { client, ended };
      await sleep(PAUSE_MS);
    }
  } catch (error) {
    await client.end().catch(() => {});
    throw error;
  }
  await client.end();
  return null;
}
