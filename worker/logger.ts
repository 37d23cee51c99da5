import { type DestinationStream, destination, type Logger as PinoLogger, pino, stdSerializers } from "pino";
import type { LogFields, Logger } from "#core/ports/logger.ts";
import type { LogLevels } from "./config.ts";

const STDERR = 2;
/** Names of fields that hold secrets, should one ever be logged by mistake: at the top and one level down. */
const SECRET_FIELDS = ["password", "privateKey", "secret", "token", "tokens"];

/** One logger for each part of the worker, at the level of that part. */
export interface WorkerLoggers {
  readonly main: Logger;
  readonly eval: Logger;
  readonly build: Logger;
  readonly proto: Logger;
}

/** JSON lines on stderr, written at once: the last line before a crash is there. */
export function createLoggers(
  levels: LogLevels,
  output: DestinationStream = destination({ fd: STDERR, sync: true }),
): WorkerLoggers {
  const root = pino(
    {
      level: "trace",
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      messageKey: "message",
      errorKey: "error",
      formatters: { level: (label: string) => ({ level: label }) },
      serializers: { error: stdSerializers.errWithCause },
      redact: { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: "[secret]" },
    },
    output,
  );
  return {
    main: wrap(root.child({ part: "main" }, { level: levels.default })),
    eval: wrap(root.child({ part: "eval" }, { level: levels.eval })),
    build: wrap(root.child({ part: "build" }, { level: levels.build })),
    proto: wrap(root.child({ part: "proto" }, { level: levels.proto })),
  };
}

function wrap(logger: PinoLogger): Logger {
  return {
    debug: (message, fields: LogFields = {}) => logger.debug(fields, message),
    info: (message, fields: LogFields = {}) => logger.info(fields, message),
    warn: (message, fields: LogFields = {}) => logger.warn(fields, message),
    error: (message, fields: LogFields = {}) => logger.error(fields, message),
    with: (fields) => wrap(logger.child(fields)),
  };
}
