import { processEnvironment } from "./config/environment.ts";
import { ConfigError, readConfig } from "./config.ts";
import { createLoggers } from "./logger.ts";
import { type RunningServer, startServer } from "./server.ts";

const NODE_MAJOR_MIN = 24;
/** The whole of a stop, after which the process ends as it is. The database recovers from that. */
const STOP_MS_MAX = 30_000;

async function main(): Promise<void> {
  if (Number.parseInt(process.versions.node, 10) < NODE_MAJOR_MIN) {
    return giveUp(`Node ${NODE_MAJOR_MIN} or later is needed, this is ${process.version}: start it with npm start`);
  }
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
    const loggers = createLoggers(config.logLevels);
    for (const warning of warnings) loggers.main.warn(warning);
    const server = await startServer(config, loggers);
    loggers.main.info("the server is ready", { url: server.url, folder: config.basePath });

    const reason = await Promise.race([stop.promise, server.failed.then((words) => ({ words }))]);
    if (typeof reason === "string") loggers.main.info("stopping", { signal: reason });
    else loggers.main.error("stopping: the server cannot go on", { reason: reason.words });
    if (typeof reason !== "string") process.exitCode = 1;
    await stopWithin(server, STOP_MS_MAX);
  } catch (error) {
    // What an operator can mend has words of its own and is a plain `Error`; anything else is a mistake of ours.
    const worded = error instanceof ConfigError || (error instanceof Error && error.constructor === Error);
    if (!worded) process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
    giveUp(error instanceof Error ? error.message : String(error));
  }
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
