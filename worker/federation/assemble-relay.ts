import { systemClock } from "#core/lib/clock.ts";
import type { WorkerConfig } from "../config.ts";
import type { FederationSettings } from "../config-connection.ts";
import type { WorkerLoggers } from "../logger.ts";
import type { Stoppable } from "../main-signals.ts";
import { watchPeers } from "../peers-watch.ts";
import { openServerConnection } from "../server-connection.ts";
import { readDownstreamTokens } from "./downstream-tokens.ts";
import { Relay } from "./relay.ts";
import { WorkerListener } from "./worker-listener.ts";

export interface AssembledRelay extends AsyncDisposable {
  readonly loggers: WorkerLoggers;
  readonly work: Stoppable;
}

/** Puts a relay together; workers may connect when it resolves. Throws `ListenError`. */
export async function assembleRelay(
  config: WorkerConfig,
  { downstreamsFile, ...listen }: FederationSettings,
  { workerId, loggers }: { readonly workerId: string; readonly loggers: WorkerLoggers },
): Promise<AssembledRelay> {
  const log = loggers.proto;
  const connection = await openServerConnection(config, { workerId, log });
  const relay = new Relay({
    workerId,
    able: { fetch: config.capabilities.fetch, eval: config.capabilities.eval, build: config.capabilities.build },
    dataDir: config.dataDir,
    workersMax: listen.connectionsMax,
    connect: connection.connect,
    tokensFor: connection.tokensFor,
    readTokens: () => readDownstreamTokens(downstreamsFile),
    clock: systemClock,
    log,
  });
  const listener = await WorkerListener.open({ ...listen, relay, log });
  log.info("waiting for workers", { address: listen.address, port: listener.port });
  const changed = () => {
    log.info("a file of tokens has changed");
    void relay.reload();
  };
  const watching = [config.peers, { file: downstreamsFile, text: null }].map((source) => watchPeers(source, changed));
  return {
    loggers,
    work: relay,
    async [Symbol.asyncDispose]() {
      for (const watch of watching) watch[Symbol.dispose]();
      await listener[Symbol.asyncDispose]();
      await connection[Symbol.asyncDispose]();
    },
  };
}
