import { SECOND } from "#core/lib/clock.ts";
import type { Config } from "./config.ts";
import { type ErrorReports, startErrorReports } from "./error-reports.ts";
import { createLoggers, type Loggers } from "./logger.ts";
import { VERSION } from "./version.ts";

export interface OpenedLoggers {
  readonly loggers: Loggers;
  /** To be awaited before the process ends: reports that are on their way get a few seconds. */
  readonly flush: () => Promise<void>;
}

const FLUSH_MS_MAX: number = 3 * SECOND;

/** The loggers. Where the configuration names a place for them, errors are reported there, and so is what ends us. */
export async function openLoggers({ logLevels, reports: { sentryDsn } }: Config): Promise<OpenedLoggers> {
  let reports: ErrorReports | null = null;
  const loggers = createLoggers(logLevels, undefined, (error) => reports?.report(error));
  const flush = async () => await reports?.flush(FLUSH_MS_MAX);
  if (sentryDsn !== null) {
    const onFailure = (reason: string) => loggers.main.warn("an error could not be reported", { reason });
    reports = await startErrorReports({ dsn: sentryDsn, version: VERSION, onFailure });
    process.on("uncaughtException", (error) => {
      loggers.main.error("the server ends by a mistake of its own", { error });
      void flush().finally(() => process.exit(1));
    });
  }
  return { loggers, flush };
}
