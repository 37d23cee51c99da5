import type { Logger } from "#core/ports/logger.ts";

/** Says nothing. */
export const quietLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  with: () => quietLogger,
};
