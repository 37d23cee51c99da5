import { join } from "node:path";
import { type Clock, MINUTE } from "#core/lib/clock.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { BuildEnvironment } from "../build/environment.ts";
import type { DaemonPool } from "../daemon/pool.ts";
import type { DaemonStore } from "../daemon/store-url.ts";
import { MachineOwner } from "./machine-owner.ts";
import { PrivateDaemon, type PrivateDaemonOptions } from "./private-daemon.ts";

/** A store to work in, with the connections to its daemon. */
export interface WorkStore {
  readonly pool: DaemonPool;
  readonly builds: BuildEnvironment;
  readonly daemonStore: DaemonStore;
  /** For programs of Nix. */
  readonly nixRemote: string;
}

export interface OrganizationStoresOptions {
  /** The store of the machine's own daemon. */
  readonly machine: WorkStore;
  /** Everybody works in the machine's store: whoever set this vouches for all organizations to each other. */
  readonly shared: boolean;
  readonly dataDir: string;
  readonly daemon: Omit<PrivateDaemonOptions, "folder" | "group" | "clock">;
  /** The group of those who evaluate for an organization. Null: it is the worker itself. */
  readonly groupOf: (organization: string) => Promise<number | null>;
  /** Connections to the daemon of such a store. */
  readonly open: (store: DaemonStore) => Promise<WorkStore>;
  readonly clock: Clock;
  readonly log: Logger;
  /** How long a daemon without work is kept. Default 10 minutes. */
  readonly idleMsMax?: number;
}

interface PrivateStore {
  readonly daemon: PrivateDaemon;
  readonly store: WorkStore;
}

/** One organization's own store, while there is work in it and for a while after that. */
interface Tenant {
  users: number;
  opening: Promise<PrivateStore> | null;
  cancelIdle: () => void;
}

export const STORES_FOLDER = "stores";

/**
 * Which store an organization works in. Whoever may build in a store can fill any of its paths with anything, so that
 * a store is a trust domain: a worker that serves one organization gives it the machine's store; one that serves
 * several gives each its own, below the data folder, behind a daemon that is started when there is work. The machine's
 * store stays with the first organization that had it.
 */
export class OrganizationStores implements AsyncDisposable {
  readonly #options: OrganizationStoresOptions;
  readonly #owner: MachineOwner;
  readonly #tenants = new Map<string, Tenant>();
  #served: readonly string[] = [];
  #told = new Set<string>();

  constructor(options: OrganizationStoresOptions) {
    this.#options = options;
    this.#owner = new MachineOwner(options.dataDir);
  }

  /** Those that the worker proves itself to from now on. What runs stays where it is. */
  serve(organizations: readonly string[]): void {
    this.#served = [...new Set(organizations)];
  }

  /** Runs the task in the organization's store. Throws `PrivateDaemonError` and what the task throws. */
  async use<T>(organization: string, task: (store: WorkStore) => Promise<T>): Promise<T> {
    if (await this.#hasMachines(organization)) return await task(this.#options.machine);
    const tenant = this.#tenant(organization);
    tenant.users++;
    tenant.cancelIdle();
    try {
      return await task((await this.#opened(organization, tenant)).store);
    } finally {
      tenant.users--;
      if (tenant.users === 0) this.#endWhenIdle(tenant);
    }
  }

  /** Ends every private daemon, and what runs there. The machine's connections are closed too. */
  async [Symbol.asyncDispose](): Promise<void> {
    const tenants = [...this.#tenants.values()];
    await Promise.all([this.#options.machine.pool.close({ abandon: true }), ...tenants.map((each) => this.#end(each))]);
  }

  async #hasMachines(organization: string): Promise<boolean> {
    if (this.#options.shared) return true;
    const alone = this.#served.every((id) => id === organization);
    if (!alone) return false;
    const owner = await this.#owner.claim(organization);
    const own = owner === organization;
    if (!own && !this.#told.has(organization)) {
      this.#told.add(organization);
      const message = "another organization had the machine's store before: this one works in a store of its own";
      this.#options.log.warn(message, { organization, before: owner, file: this.#owner.path });
    }
    return own;
  }

  #tenant(organization: string): Tenant {
    const known = this.#tenants.get(organization);
    if (known) return known;
    const tenant: Tenant = { users: 0, opening: null, cancelIdle: () => {} };
    this.#tenants.set(organization, tenant);
    return tenant;
  }

  /** One daemon for all who come while it starts; one that died is started anew. */
  async #opened(organization: string, tenant: Tenant): Promise<PrivateStore> {
    for (;;) {
      tenant.opening ??= this.#open(organization);
      const opening = tenant.opening;
      try {
        const opened = await opening;
        if (opened.daemon.running) return opened;
        await opened.store.pool.close({ abandon: true });
        if (tenant.opening === opening) tenant.opening = null;
      } catch (error) {
        if (tenant.opening === opening) tenant.opening = null;
        throw error;
      }
    }
  }

  async #open(organization: string): Promise<PrivateStore> {
    const { dataDir, daemon: options, groupOf, clock, log } = this.#options;
    const folder = join(dataDir, STORES_FOLDER, organization);
    const daemon = await PrivateDaemon.start({ ...options, folder, group: await groupOf(organization), clock });
    const store = await this.#options.open(daemon.store).catch(async (error: unknown) => {
      await daemon.stop(clock);
      throw error;
    });
    log.info("the organization works in a store of its own", { organization, folder });
    return { daemon, store };
  }

  #endWhenIdle(tenant: Tenant): void {
    const { clock, log, idleMsMax = 10 * MINUTE } = this.#options;
    tenant.cancelIdle = clock.schedule(idleMsMax, () => {
      this.#end(tenant).catch((error: unknown) => log.warn("an idle nix-daemon could not be ended", { error }));
    });
  }

  async #end(tenant: Tenant): Promise<void> {
    tenant.cancelIdle();
    const { opening } = tenant;
    tenant.opening = null;
    const opened = await opening?.catch(() => null);
    if (!opened) return;
    await opened.store.pool.close({ abandon: true });
    await opened.daemon.stop(this.#options.clock);
  }
}
