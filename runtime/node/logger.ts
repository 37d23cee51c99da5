import { type DestinationStream, type Logger as PinoLogger, pino, stdSerializers } from "pino";
import type { LogFields, Logger } from "#core/ports/logger.ts";
import type { LogLevel, LogLevels } from "./config.ts";

/** Names of fields that hold secrets, should one ever be logged by mistake: at the top and one level down. */
const SECRET_FIELDS = [
  "authorization",
  "cookie",
  "crypt",
  "jwt",
  "password",
  "privateKey",
  "secret",
  "secretKey",
  "secret_key",
  "token",
];

/** One logger for each part of the server, at the level of that part. */
export interface Loggers {
  readonly main: Logger;
  readonly web: Logger;
  readonly cache: Logger;
  readonly proto: Logger;
  readonly scheduler: Logger;
}

/** JSON lines on stdout, written at once: the last line before a crash is there. */
export function createLoggers(levels: LogLevels, destination?: DestinationStream): Loggers {
  const options = {
    level: "trace",
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    messageKey: "message",
    errorKey: "error",
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { error: stdSerializers.errWithCause },
    redact: { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: "[secret]" },
  };
  const root = destination ? pino(options, destination) : pino(options);
  const part = (name: string, level: LogLevel): Logger => wrap(root.child({ part: name }, { level }));
  return {
    main: part("main", levels.default),
    web: part("web", levels.web),
    cache: part("cache", levels.cache),
    proto: part("proto", levels.proto),
    scheduler: part("scheduler", levels.scheduler),
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
