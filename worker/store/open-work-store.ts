import { join } from "node:path";
import { systemClock } from "#core/lib/clock.ts";
import type { Logger } from "#core/ports/logger.ts";
import { createBuildEnvironment } from "../build/environment.ts";
import { clearGcRoots } from "../build/gc-roots.ts";
import type { WorkerConfig } from "../config.ts";
import type { Places } from "../daemon/places.ts";
import { DaemonPool } from "../daemon/pool.ts";
import type { DaemonStore } from "../daemon/store-url.ts";
import type { Signer } from "../signing-key.ts";
import type { WorkStore } from "./organization-stores.ts";

export interface WorkStoreDeps {
  readonly config: WorkerConfig;
  readonly signer: Signer | null;
  /** Of all stores together: a connection of one takes a place from the others. */
  readonly connections: Places;
  readonly log: Logger;
}

/** The store of the machine's daemon, as the operator named it. */
export function machineWorkStore(deps: WorkStoreDeps): WorkStore {
  const { daemonStore, nixRemote, gcRootsDir } = deps.config;
  return workStore(daemonStore, nixRemote, gcRootsDir ?? "", deps);
}

/** A store behind a daemon of this worker's. Its roots are in the store itself; switched off they are here too. */
export async function privateWorkStore(daemonStore: DaemonStore, deps: WorkStoreDeps): Promise<WorkStore> {
  const { root, socketPath } = daemonStore;
  const gcRootsDir = deps.config.gcRootsDir === null ? "" : join(root, "nix/var/nix/gcroots/gradient");
  await clearGcRoots(gcRootsDir);
  return workStore(daemonStore, `unix://${socketPath}?root=${root}`, gcRootsDir, deps);
}

function workStore(daemonStore: DaemonStore, nixRemote: string, gcRootsDir: string, deps: WorkStoreDeps): WorkStore {
  const { config, signer, connections, log } = deps;
  const pool = new DaemonPool({
    socketPath: daemonStore.socketPath,
    maxConnections: config.daemonConnectionsMax,
    shared: connections,
  });
  const builds = createBuildEnvironment({
    pool,
    gcRootsDir,
    storeRoot: daemonStore.root,
    cores: config.buildCoresMax,
    logLimits: config.logLimits,
    metering: config.metering,
    signer,
    log,
    clock: systemClock,
  });
  return { pool, builds, daemonStore, nixRemote };
}
