import { StateError } from "#core/services/state-apply.ts";
import { processEnvironment } from "./config/environment.ts";
import { type Config, ConfigError, readConfig } from "./config.ts";
import type { Loggers } from "./logger.ts";
import { moveStorage } from "./move-storage.ts";
import { openLoggers } from "./open-loggers.ts";
import { type RunningServer, startServer } from "./server.ts";
import { openServiceManager } from "./service-manager.ts";
import { keepTickShape } from "./tick-shape.ts";
import { validateState } from "./validate-state.ts";

const NODE_MAJOR_MIN = 24;
/** The whole of a stop, after which the process ends as it is. The database recovers from that. */
const STOP_MS_MAX = 30_000;

const USAGE = `usage: gradient-server [COMMAND]
  without a command  serves
  migrate-storage    copies what is stored to where GRADIENT_STORAGE_MOVING_TO says, beside a running server;
                     with --delete, frees the old place when everything has arrived
  validate-state [FILE]
                     checks a state file without a database, by default the one that GRADIENT_STATE_FILE names; ends
                     with 0 when it is good, with 1 when it is wrong or cannot be read, with 2 when there is none`;

async function main(): Promise<void> {
  if (Number.parseInt(process.versions.node, 10) < NODE_MAJOR_MIN) {
    return giveUp(`Node ${NODE_MAJOR_MIN} or later is needed, this is ${process.version}: start it with npm start`);
  }
  const [command = "serve", argument] = process.argv.slice(2);
  if (command === "validate-state" || command === "--validate-state") return await checkStateFile(argument);
  if (!["serve", "migrate-storage"].includes(command)) return giveUp(`there is no command ${command}\n${USAGE}`);
  void keepTickShape();
  const stop = Promise.withResolvers<string>();
  let signals = 0;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      // Asked again: at once. PostgreSQL is told by the kernel and recovers at the next start.
      if (++signals > 1) process.exit(130);
      stop.resolve(signal);
    });
  }
  try {
    const { config, warnings } = readConfig(processEnvironment());
    const { loggers, flush } = await openLoggers(config);
    for (const warning of warnings) loggers.main.warn(warning);
    if (command === "migrate-storage") return await migrateStorage(config, loggers, stop.promise);
    const manager = openServiceManager(processEnvironment(), loggers.main);
    const server = await startServer(config, loggers, manager);
    loggers.main.info("the server is ready", { url: server.url, folder: config.basePath });
    manager.ready(server.vitals);

    const reason = await Promise.race([stop.promise, server.failed.then((words) => ({ words }))]);
    if (typeof reason === "string") loggers.main.info("stopping", { signal: reason });
    else loggers.main.error("stopping: the server cannot go on", { reason: reason.words });
    if (typeof reason !== "string") process.exitCode = 1;
    manager.stopping(() => "stopping: what is under way has some seconds to end");
    await stopWithin(server, STOP_MS_MAX);
    await manager.close();
    await flush();
  } catch (error) {
    // What an operator can mend has words of its own and is a plain `Error`; anything else is a mistake of ours.
    const worded =
      error instanceof ConfigError ||
      error instanceof StateError ||
      (error instanceof Error && error.constructor === Error);
    if (!worded) process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
    giveUp(error instanceof Error ? error.message : String(error));
  }
}

async function migrateStorage(config: Config, { main: log }: Loggers, stop: Promise<string>): Promise<void> {
  const stopping = new AbortController();
  void stop.then(() => stopping.abort());
  const deleteOld = process.argv.includes("--delete");
  const isWhole = await moveStorage(config, { deleteOld, log, signal: stopping.signal });
  if (!isWhole) process.exitCode = 1;
}

async function checkStateFile(path: string | undefined): Promise<void> {
  const { exitCode, text } = await validateState(path, processEnvironment());
  process[exitCode === 0 ? "stdout" : "stderr"].write(`${text}\n`);
  process.exitCode = exitCode;
}

async function stopWithin(server: RunningServer, ms: number): Promise<void> {
  const timer = setTimeout(() => giveUp(`did not stop within ${ms / 1_000} s`), ms);
  timer.unref();
  await server.close();
  clearTimeout(timer);
}

function giveUp(message: string): void {
  process.stderr.write(`gradient-server: ${message}\n`);
  process.exit(1);
}

await main();
