import { execFile } from "node:child_process";
import { write } from "node:fs";
import { promisify } from "node:util";
import { systemClock } from "#core/lib/clock.ts";
import { serviceManagerOf } from "#core/lib/manager-place.ts";
import type { ServiceManager } from "#core/lib/service-manager.ts";
import type { Logger } from "#core/ports/logger.ts";

const RUN_MS_MAX = 10_000;

/** The service manager that has started this process, if one has; its variables are taken out of `environment`. */
export function openServiceManager(environment: Record<string, string | undefined>, log: Logger): ServiceManager {
  return serviceManagerOf(environment, {
    pid: process.pid,
    write: promisify(write),
    run: (command, args, env) => promisify(execFile)(command, args, { env, timeout: RUN_MS_MAX }),
    clock: systemClock,
    warn: (message, error) => log.warn(message, { error: error instanceof Error ? error.message : String(error) }),
  });
}
