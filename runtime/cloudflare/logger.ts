import type { LogFields, Logger } from "#core/ports/logger.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** JSON lines to the Worker's log, as the servers write theirs. */
export function createLogger(level: LogLevel, fields: LogFields = {}): Logger {
  const at =
    (own: LogLevel) =>
    (message: string, more: LogFields = {}): void => {
      if (LOG_LEVELS.indexOf(own) < LOG_LEVELS.indexOf(level)) return;
      const line = { level: own, time: new Date().toISOString(), ...fields, ...more, message };
      // biome-ignore lint/suspicious/noConsole: a Worker has no other output
      console[own](JSON.stringify(line, describeErrors));
    };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    with: (more) => createLogger(level, { ...fields, ...more }),
  };
}

/** JSON says nothing of an error otherwise. */
function describeErrors(_: string, value: unknown): unknown {
  if (!(value instanceof Error)) return value;
  const { name, message, stack, cause } = value;
  return { name, message, stack, ...(cause !== undefined && { cause }) };
}
