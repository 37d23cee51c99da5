import type { LogFields, Logger } from "#core/ports/logger.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Names of fields that hold secrets, should one ever be logged by mistake. */
const SECRET_FIELD = /^(?:authorization|cookie|crypt|jwt|password|private_?key|secret|secret_?key|token)$/i;

/** JSON lines to the Worker's log, as the servers write theirs. */
export function createLogger(level: LogLevel, fields: LogFields = {}): Logger {
  const at =
    (own: LogLevel) =>
    (message: string, more: LogFields = {}): void => {
      if (LOG_LEVELS.indexOf(own) < LOG_LEVELS.indexOf(level)) return;
      const line = { level: own, time: new Date().toISOString(), ...fields, ...more, message };
      // biome-ignore lint/suspicious/noConsole: a Worker has no other output
      console[own](JSON.stringify(line, describe));
    };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    with: (more) => createLogger(level, { ...fields, ...more }),
  };
}

/** JSON says nothing of an error by itself. */
function describe(field: string, value: unknown): unknown {
  if (SECRET_FIELD.test(field)) return "[secret]";
  if (!(value instanceof Error)) return value;
  const { name, message, stack, cause } = value;
  return { name, message, stack, ...(cause !== undefined && { cause }) };
}
