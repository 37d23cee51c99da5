import { sleep } from "#core/lib/clock.ts";
import { keepAuditing } from "./audit-loop.ts";
import type { Composition } from "./compose.ts";
import { keepSealingLogs } from "./log-sealing.ts";
import type { Loggers } from "./logger.ts";
import { type OnceOnly, startOnceOnly } from "./once-only.ts";
import type { ConnectionTarget } from "./pool.ts";
import { keepTidyingSources } from "./source-tidying.ts";

const UPSTREAMS_INTERVAL_MS = 3_600_000;

/** The loops that one server runs for all on a database. */
export function startOnceOnlyLoops(
  target: ConnectionTarget,
  composition: Composition,
  { loggers, auditIntervalMs }: { readonly loggers: Loggers; readonly auditIntervalMs: number },
): OnceOnly {
  return startOnceOnly(target, loggers.main, async (signal) => {
    await Promise.all([
      tidyUpstreams(composition, signal, loggers),
      keepSealingLogs({ ...composition.logs, log: loggers.web }, signal),
      keepTidyingSources({ ...composition.logs, log: loggers.web }, signal),
      keepAuditing({ ...composition.hub, log: loggers.scheduler }, { intervalMs: auditIntervalMs, signal }),
    ]);
  });
}

/** Answers of upstreams that count no more are no reason to grow. */
async function tidyUpstreams({ hub }: Composition, signal: AbortSignal, { cache }: Loggers): Promise<void> {
  while (!signal.aborted) {
    await sleep(hub.clock, UPSTREAMS_INTERVAL_MS, signal);
    if (signal.aborted) return;
    await hub.upstreams.tidy().catch((error: unknown) => cache.warn("what upstreams said was not tidied", { error }));
  }
}
