import { deepSweepTask } from "#core/services/retention-deep.ts";
import { keepActing } from "./action-loop.ts";
import { keepAuditing } from "./audit-loop.ts";
import type { Composition } from "./compose.ts";
import type { IntegritySettings } from "./config/integrity.ts";
import type { UploadSettings } from "./config/uploads.ts";
import { keepIndexingDebugInfo } from "./debug-indexing.ts";
import { keepIntegrity } from "./integrity-loops.ts";
import { keepWalkingKeys } from "./key-walk-loop.ts";
import { keepSealingLogs } from "./log-sealing.ts";
import type { Loggers } from "./logger.ts";
import { keepAccounts } from "./mail-loop.ts";
import { keepTidyingMetrics } from "./metrics-tidying.ts";
import { type OnceOnly, startOnceOnly } from "./once-only.ts";
import type { ConnectionTarget } from "./pool.ts";
import { keepSweeping } from "./retention-loop.ts";
import { keepTidyingSources } from "./source-tidying.ts";
import { keepFiring } from "./trigger-loop.ts";
import { keepTidyingUploads } from "./upload-tidying.ts";
import { keepUpstreams } from "./upstream-loop.ts";
import { keepSettlingVerdicts } from "./verdict-loop.ts";

/** The loops that one server runs for all on a database. */
export function startOnceOnlyLoops(
  target: ConnectionTarget,
  composition: Composition,
  {
    loggers,
    auditIntervalMs,
    integrity,
    uploads,
    sweepIntervalMs,
  }: {
    readonly loggers: Loggers;
    readonly auditIntervalMs: number;
    readonly integrity: IntegritySettings;
    readonly uploads: UploadSettings;
    readonly sweepIntervalMs: number;
  },
): OnceOnly {
  const retention = { ...composition.retention, log: loggers.cache };
  const tasks = { deep_gc: deepSweepTask(retention) };
  return startOnceOnly(target, loggers.main, async (signal) => {
    await Promise.all([
      keepUpstreams({ ...composition.hub, log: loggers.cache }, signal),
      keepAccounts(composition.accounts, signal),
      keepSweeping(retention, { intervalMs: sweepIntervalMs, signal }),
      keepIntegrity({ ...composition.hub, log: loggers.cache }, integrity, { tasks, signal }),
      keepTidyingMetrics({ db: composition.hub.db, log: loggers.main }, signal),
      keepWalkingKeys({ ...composition.hub, log: loggers.cache }, signal),
      keepSealingLogs({ ...composition.logs, log: loggers.web }, signal),
      keepSettlingVerdicts({ ...composition.logs, log: loggers.web }, signal),
      keepTidyingSources({ ...composition.logs, log: loggers.web }, signal),
      keepTidyingUploads({ ...composition.logs, log: loggers.cache }, uploads, signal),
      keepIndexingDebugInfo(composition.debugIndex, signal),
      keepFiring(composition.triggers, signal),
      keepActing(composition.acting, signal),
      keepAuditing({ ...composition.hub, log: loggers.scheduler }, { intervalMs: auditIntervalMs, signal }),
    ]);
  });
}
