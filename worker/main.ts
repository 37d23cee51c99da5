import { assembleWorker } from "./assemble.ts";
import { processEnvironment } from "./config.ts";
import { prepare, StartError } from "./main-prepare.ts";
import { runUntilSignalled } from "./main-signals.ts";
import { openServiceManager } from "./service-manager.ts";

const NODE_MAJOR_MIN = 24;

if (Number.parseInt(process.versions.node, 10) < NODE_MAJOR_MIN) {
  process.stderr.write(`gradient-worker needs Node ${NODE_MAJOR_MIN} or later; this is ${process.versions.node}\n`);
  process.exit(1);
}

try {
  const prepared = await prepare(processEnvironment());
  const isRelay = "work" in prepared;
  await using worker = isRelay ? prepared : assembleWorker(prepared);
  const { main: log } = prepared.loggers;
  const manager = openServiceManager(processEnvironment(), log);
  await runUntilSignalled(worker.work, log, manager);
  await manager.close();
} catch (error) {
  if (!(error instanceof StartError)) throw error;
  process.stderr.write(`gradient-worker cannot start: ${error.message}\n`);
  process.exitCode = 1;
}
