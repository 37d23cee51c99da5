import { systemClock } from "#core/lib/clock.ts";
import { storePathName } from "#core/nix/store-path.ts";
import type { BuildJob } from "#core/protocol/server-messages.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { Agent } from "./agent.ts";
import { executeBuild } from "./build/execute.ts";
import { Places } from "./daemon/places.ts";
import { Evaluations } from "./evaluations.ts";
import type { AttemptLink } from "./link.ts";
import { createMachineMetrics } from "./machine-metrics.ts";
import type { PreparedWorker } from "./main-prepare.ts";
import type { Stoppable } from "./main-signals.ts";
import { OrganizationPlaces } from "./organization-places.ts";
import { watchPeers } from "./peers-watch.ts";
import { NarReturns } from "./session/nar-returns.ts";
import { machineWorkStore, privateWorkStore } from "./store/open-work-store.ts";
import { OrganizationStores } from "./store/organization-stores.ts";
import { privateDaemonSettings } from "./store/private-daemon-settings.ts";
import { returnPath } from "./store/return-path.ts";
import { preparedBuilds, readStoreFacts } from "./store-facts.ts";

export interface AssembledWorker extends AsyncDisposable {
  readonly work: Stoppable;
}

/** Puts the worker together: the store's connections, the executors of both kinds of job, and the session. */
export function assembleWorker(prepared: PreparedWorker): AssembledWorker {
  const { config, loggers, workerId, facts, signer, connection } = prepared;
  const places = new OrganizationPlaces(config.dataDir, prepared.evaluatorUser);
  const stores = openStores(prepared, places);
  const evaluations = new Evaluations(prepared, places);
  const build = async (job: BuildJob, aterm: Uint8Array, link: AttemptLink): Promise<BuildResult> => {
    const { drv_path: drvPath, inputs, timeout_ms: timeoutMs, max_silent_ms: maxSilentMs } = job;
    const request = { drvPath, aterm, inputs, timeoutMs, maxSilentMs };
    const result = await stores.use(job.organization, ({ builds }) => executeBuild(request, link, builds));
    const name = storePathName(drvPath).replace(/\.drv$/, "");
    const failure = result.failure ? { class: result.failure.class, reason: result.failure.message } : {};
    loggers.build.info("build ended", { name, status: result.status, buildMs: result.build_ms, ...failure });
    return result;
  };

  const agent = new Agent({
    workerId,
    capabilities: config.capabilities,
    facts: { ...facts, signingKey: signer?.publicKey ?? null },
    dataDir: config.dataDir,
    connect: connection.connect,
    arrival: connection.arrival,
    tokensFor: async (challenged, socket) => {
      const tokens = await connection.tokensFor(challenged, socket);
      stores.serve(tokens.map(({ peer }) => peer));
      return tokens;
    },
    build,
    preparedMax: preparedBuilds({ places: facts.maxConcurrentBuilds, connections: config.daemonConnectionsMax }),
    returns: new NarReturns({
      find: (wanted, send, signal) =>
        stores.use(wanted.organization, ({ pool }) => returnPath(pool, wanted, send, signal)),
      log: loggers.build,
    }),
    evaluate: (job, link) => stores.use(job.organization, (store) => evaluations.run(store, job, link)),
    metrics: createMachineMetrics(),
    clock: systemClock,
    log: loggers.proto,
  });
  const watching = watchPeers(config.peers, () => {
    loggers.proto.info("the peers file has changed");
    agent.renewTokens();
  });
  return {
    work: {
      run: () => agent.run(),
      drain: () => agent.drain(),
      abort: () => agent.abort(),
      state: () => agent.state,
      reload: async () => {
        agent.renewTokens();
        agent.describe({ ...(await readStoreFacts(config)), signingKey: signer?.publicKey ?? null });
      },
    },
    async [Symbol.asyncDispose]() {
      watching[Symbol.dispose]();
      await connection[Symbol.asyncDispose]();
      await evaluations[Symbol.asyncDispose]();
      await stores[Symbol.asyncDispose]();
    },
  };
}

/** The machine's store, and those that organizations get of their own when the worker serves several. */
function openStores(
  { config, loggers, facts, signer }: PreparedWorker,
  places: OrganizationPlaces,
): OrganizationStores {
  const connections = new Places(config.daemonConnectionsMax, systemClock);
  const deps = { config, signer, connections, log: loggers.build };
  return new OrganizationStores({
    machine: machineWorkStore(deps),
    shared: config.sharedStore,
    dataDir: config.dataDir,
    daemon: {
      nixCommand: config.nixCommand,
      variables: config.childVariables,
      settings: privateDaemonSettings({ evaluatorUserName: config.evaluatorUser, minFreeBytes: facts.minFreeBytes }),
    },
    groupOf: async (organization) => (await places.of(organization)).user?.gid ?? null,
    open: (store) => privateWorkStore(store, deps),
    clock: systemClock,
    log: loggers.main,
  });
}
