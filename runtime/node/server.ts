import { existsSync } from "node:fs";
import type { IncomingMessage, Server } from "node:http";
import { join } from "node:path";
import { clientAddress } from "#core/http/client-address.ts";
import { ServiceManager, type SignsOfLife } from "#core/lib/service-manager.ts";
import { openBaseFolder } from "./base-folder.ts";
import { peerAddress } from "./client-of.ts";
import { type Composition, compose } from "./compose.ts";
import type { Config } from "./config.ts";
import { type Databases, openDatabases } from "./database.ts";
import { keepFlushing } from "./flush-loop.ts";
import { createHttpServer } from "./http-server.ts";
import { Hub } from "./hub/hub.ts";
import { attachProtoEndpoint } from "./hub/websocket.ts";
import { listen, stopListening } from "./listen.ts";
import { LiveSockets } from "./live-sockets.ts";
import type { Loggers } from "./logger.ts";
import { startNotifier } from "./notifier.ts";
import { startOnceOnlyLoops } from "./once-only-loops.ts";
import type { ConnectionTarget } from "./pool.ts";
import { type RunningPostgres, startPostgres } from "./postgres/start.ts";
import { keepCountingSent } from "./proxy-log.ts";
import { loadSecrets } from "./secrets.ts";
import { takeServerPlace } from "./sole-server.ts";
import { applyDeclaredState } from "./state.ts";
import { openStorage } from "./storage.ts";
import { vitalsOf } from "./vitals.ts";

export interface RunningServer {
  /** `http://address:port`, of this process itself. */
  readonly url: string;
  /** Resolves with the reason when the server cannot go on: its own PostgreSQL ended. */
  readonly failed: Promise<string>;
  readonly vitals: SignsOfLife;
  /** Requests under way get some seconds to end; then everything that was started is stopped, the last one first. */
  close(): Promise<void>;
}

const REQUEST_GRACE_MS = 10_000;
/** Wake-ups, migrations and once-only work, beside the pools. */
const CONNECTIONS_BESIDE_POOLS = 5;

/**
 * Starts everything that `config` asks for. Throws with words for the operator, after it has stopped what it started.
 */
export async function startServer(
  config: Config,
  loggers: Loggers,
  manager: ServiceManager = new ServiceManager(),
): Promise<RunningServer> {
  await using started = new AsyncDisposableStack();
  const lock = await openBaseFolder(config.basePath);
  started.defer(() => lock.release());

  const mayMakeSecrets = config.database.url === null && !existsSync(postgresFolder(config));
  const secrets = await loadSecrets(config.secrets, join(config.basePath, "secrets"), mayMakeSecrets);
  const closing = new AbortController();
  const postgres = await startOwnPostgres(config, loggers, manager);
  if (postgres) started.defer(() => postgres.stop());
  const target: ConnectionTarget = postgres ? postgres.address : { url: config.database.url as string };

  const databases: Databases = await manager.during("bringing the database up to date", () =>
    openDatabases(target, config.database, loggers.main),
  );
  started.defer(() => databases.close());
  const storage = await openStorage(config);
  started.defer(() => storage.close());
  // Nobody else can reach a database of our own.
  const place = postgres
    ? null
    : await takeServerPlace(target, { shared: storage.sharedName !== null, log: loggers.main });
  if (place) started.defer(() => place.release());
  const notifier = await startNotifier(target, loggers.main);
  started.defer(() => notifier.close());

  await manager.during("applying the declared state", () =>
    applyDeclaredState({ config, databases, notifier, secrets }, loggers.main),
  );
  const composition = await compose({ config, loggers, databases, notifier, secrets, storage });
  started.defer(composition.close);
  // Stopped after the requests: their uses count, too.
  started.use(stoppable((stopping) => keepFlushing(composition, loggers.cache, stopping)));
  started.use(stoppable((stopping) => keepCounting(config, composition, { loggers, stopping })));

  const server = createHttpServer(composition, loggers.cache);
  const live = new LiveSockets(composition.fetch, loggers.web);
  const hub = await attachHub(server, composition, { config, live });
  // Together: a server that only listened no more would wait for workers, who stay.
  started.defer(async () => {
    live.close();
    await Promise.all([stopListening(server, REQUEST_GRACE_MS), hub.close()]);
  });
  const onceOnly = startOnceOnlyLoops(target, composition, {
    loggers,
    auditIntervalMs: config.auditIntervalMs,
    integrity: config.integrity,
    uploads: config.uploads,
    sweepIntervalMs: config.retention.intervalMs,
  });
  started.defer(() => onceOnly.close());
  const port = await listen(server, config.listen);

  const running = started.move();
  const { address } = config.listen;
  const url = `http://${address.includes(":") ? `[${address}]` : address}:${port}`;
  return {
    url,
    vitals: vitalsOf(databases, { url, connections: () => hub.connections }),
    failed: Promise.race([endOf(postgres, closing.signal), ...(place ? [place.lost] : [])]),
    close: async () => {
      closing.abort();
      await running.disposeAsync();
    },
  };
}

/** What the proxy before us sends, where it writes that down. */
async function keepCounting(
  { storage: { proxyLogPath } }: Config,
  { front: { traffic }, hub: { clock } }: Composition,
  { loggers, stopping }: { readonly loggers: Loggers; readonly stopping: AbortSignal },
): Promise<void> {
  if (proxyLogPath !== null) await keepCountingSent(proxyLogPath, { traffic, clock, log: loggers.main }, stopping);
}

function stoppable(keepWorking: (stopping: AbortSignal) => Promise<void>): AsyncDisposable {
  const stopping = new AbortController();
  const ended = keepWorking(stopping.signal);
  return {
    [Symbol.asyncDispose]: async () => {
      stopping.abort();
      await ended;
    },
  };
}

/** Workers' sessions come in on the same port as everything else. */
async function attachHub(
  server: Server,
  { hub: deps, front }: Composition,
  { config: { trustedProxies }, live }: { readonly config: Config; readonly live: LiveSockets },
): Promise<Hub> {
  const hub = await Hub.start(deps);
  const { discoverable } = deps.limits;
  const addressOf = ({ socket, headers }: IncomingMessage) =>
    clientAddress(peerAddress(socket), String(headers["x-forwarded-for"] ?? ""), trustedProxies);
  attachProtoEndpoint(server, {
    refuse: (request) => {
      if (!discoverable) return { status: 404, headers: {} };
      const refusal = front.refuseSocket(request);
      if (refusal) return refusal;
      return hub.hasRoomFor(addressOf(request)) ? null : { status: 503, headers: { "Retry-After": "10" } };
    },
    accept: (socket, request) => void hub.accept(socket, { address: addressOf(request) }),
    elsewhere: (request, socket, head) => live.take(request, socket, head),
  });
  return hub;
}

/** Null with a database that is not ours. */
async function startOwnPostgres(
  config: Config,
  loggers: Loggers,
  manager: ServiceManager,
): Promise<RunningPostgres | null> {
  const { url, scheduler, web } = config.database;
  if (url !== null) return null;
  const connectionsMax = scheduler.connectionsMax + web.connectionsMax + CONNECTIONS_BESIDE_POOLS;
  const options = { folder: postgresFolder(config), connectionsMax, log: loggers.main };
  return await manager.during("starting its database", () => startPostgres(options));
}

function postgresFolder(config: Config): string {
  return join(config.basePath, "postgres");
}

/** Never resolves for a database that is not ours, or when it ends because we stop. */
async function endOf(postgres: RunningPostgres | null, closing: AbortSignal): Promise<string> {
  const reason = await postgres?.ended;
  if (reason !== undefined && !closing.aborted) return `its PostgreSQL ${reason}`;
  return await new Promise(() => {});
}
