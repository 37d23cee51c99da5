import { createServer } from "node:net";
import { join } from "node:path";
import { compose } from "#runtime/node/compose.ts";
import { readConfig } from "#runtime/node/config.ts";
import { openDatabases } from "#runtime/node/database.ts";
import { Hub } from "#runtime/node/hub/hub.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { startNotifier } from "#runtime/node/notifier.ts";
import { loadSecrets } from "#runtime/node/secrets.ts";
import { openStorage } from "#runtime/node/storage.ts";
import { Channel } from "./channel.ts";

/** What `scale.ts` gives the server's process as JSON. */
export interface ServerOrder {
  readonly environment: Readonly<Record<string, string>>;
  readonly databaseUrl: string;
  readonly socketPath: string;
}

// The server without its HTTP part: the hub on the database, the disk and the pools of the product.
const order = JSON.parse(process.argv[2] as string) as ServerOrder;
const { config } = readConfig(order.environment);
const loggers = createLoggers(config.logLevels);
const target = { url: order.databaseUrl };
const secrets = await loadSecrets(config.secrets, join(config.basePath, "secrets"), true);
const databases = await openDatabases(target, config.database, loggers.main);
const notifier = await startNotifier(target, loggers.main);
const { hub: deps } = await compose({
  config,
  loggers,
  databases,
  notifier,
  secrets,
  storage: await openStorage(config),
});
const hub = await Hub.start(deps);

const server = createServer((stream) => void new Channel(stream, (socket) => hub.accept(socket)));
server.listen(order.socketPath, () => process.send?.("ready"));
// With an end of its own a profile of the process is written.
process.on("SIGTERM", () => process.exit(0));
