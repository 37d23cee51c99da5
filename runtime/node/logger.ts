import {
  type DestinationStream,
  destination as openDestination,
  type Logger as PinoLogger,
  pino,
  stdSerializers,
} from "pino";
import type { LogFields, Logger } from "#core/ports/logger.ts";
import type { LogLevel, LogLevels } from "./config.ts";
import { redactText } from "./redact.ts";
import { currentRequestId } from "./request-context.ts";

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
const STDOUT = 1;

/** One logger for each part of the server, at the level of that part. */
export interface Loggers {
  readonly main: Logger;
  readonly web: Logger;
  readonly cache: Logger;
  readonly proto: Logger;
  readonly scheduler: Logger;
}

/** What was logged at the level `error`. */
export interface LoggedError {
  readonly part: string;
  readonly message: string;
  readonly fields: LogFields;
}

/**
 * JSON lines on stdout, written at once: the last line before a crash is there. What looks like a secret is not in
 * them, and what is logged for a request has its id. `onError` is told of each error, whatever is shown of it.
 */
export function createLoggers(
  levels: LogLevels,
  destination: DestinationStream = openDestination({ fd: STDOUT, sync: true }),
  onError: (error: LoggedError) => void = () => {},
): Loggers {
  const options = {
    level: "trace",
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    messageKey: "message",
    errorKey: "error",
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { error: stdSerializers.errWithCause },
    redact: { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: "[secret]" },
    mixin: () => {
      const requestId = currentRequestId();
      return requestId === undefined ? {} : { requestId };
    },
  };
  const root = pino(options, { write: (line: string) => destination.write(redactText(line)) });
  const part = (name: string, level: LogLevel): Logger =>
    wrap(root.child({ part: name }, { level }), (message, fields) => onError({ part: name, message, fields }));
  return {
    main: part("main", levels.default),
    web: part("web", levels.web),
    cache: part("cache", levels.cache),
    proto: part("proto", levels.proto),
    scheduler: part("scheduler", levels.scheduler),
  };
}

function wrap(logger: PinoLogger, onError: (message: string, fields: LogFields) => void): Logger {
  return {
    debug: (message, fields: LogFields = {}) => logger.debug(fields, message),
    info: (message, fields: LogFields = {}) => logger.info(fields, message),
    warn: (message, fields: LogFields = {}) => logger.warn(fields, message),
    error: (message, fields: LogFields = {}) => {
      logger.error(fields, message);
      onError(message, fields);
    },
    with: (fields) => wrap(logger.child(fields), (message, more) => onError(message, { ...fields, ...more })),
  };
}
