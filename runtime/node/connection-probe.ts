import type pg from "pg";

/** The way to the database may be cut without a word, and the kernel notices only after many minutes. */
const PROBE_INTERVAL_MS = 5_000;
/** For `query_timeout` of a connection that is probed. */
export const PROBE_TIMEOUT_MS = 10_000;

/** Resolves when the connection no longer answers, or has ended. The client gives up a query after its timeout. */
export async function noLongerAnswers(client: pg.Client, ended: Promise<void>): Promise<void> {
  let over = false;
  void ended.then(() => {
    over = true;
  });
  while (!over) {
    await pause(ended);
    if (over) return;
    try {
      await client.query("select 1");
    } catch {
      return;
    }
  }
}

async function pause(ended: Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, PROBE_INTERVAL_MS);
  await Promise.race([promise, ended]);
  clearTimeout(timer);
}
