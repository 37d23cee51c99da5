import pg from "pg";
import { noLongerAnswers, PROBE_TIMEOUT_MS } from "./connection-probe.ts";
import { type ConnectionTarget, clientConfig } from "./pool.ts";

export interface AdvisoryLock {
  /** Any number, the same in every release; advisory locks are per database. */
  readonly id: number;
  /** Held together with others that ask for it so. */
  readonly shared: boolean;
  /** Shown in `pg_stat_activity`. */
  readonly name: string;
}

export interface HeldLock {
  /** Resolves when the lock is lost or released. PostgreSQL drops it with the connection that took it. */
  readonly ended: Promise<void>;
  release(): Promise<void>;
}

/** Null when somebody else holds it; throws when the database does not answer. */
export async function tryAdvisoryLock(target: ConnectionTarget, lock: AdvisoryLock): Promise<HeldLock | null> {
  const client = new pg.Client({
    ...clientConfig(target, lock.name),
    connectionTimeoutMillis: PROBE_TIMEOUT_MS,
    query_timeout: PROBE_TIMEOUT_MS,
  });
  const ended = new Promise<void>((resolve) => {
    client.on("error", () => resolve());
    client.on("end", () => resolve());
  });
  const release = async (): Promise<void> => {
    await client.end().catch(() => {});
  };
  try {
    await client.connect();
    const take = lock.shared ? "pg_try_advisory_lock_shared" : "pg_try_advisory_lock";
    const { rows } = await client.query<{ taken: boolean }>(`select ${take}($1) as taken`, [lock.id]);
    if (!rows[0]?.taken) {
      await release();
      return null;
    }
  } catch (error) {
    await release();
    throw error;
  }
  // Somebody else may have the lock by the time that a cut connection is noticed.
  return { ended: noLongerAnswers(client, ended).then(release), release };
}
