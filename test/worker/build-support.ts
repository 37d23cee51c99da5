import { createHash, randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "#core/lib/clock.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { PathInfoField } from "#core/protocol/fields.ts";
import {
  type BuildEnvironment,
  type BuildEnvironmentOptions,
  createBuildEnvironment,
} from "#worker/build/environment.ts";
import type { BuildRequest } from "#worker/build/execute.ts";
import { LOG_LIMITS } from "#worker/build/log-limiter.ts";
import { compressZstd, decompress } from "#worker/codec.ts";
import { DaemonConnection } from "#worker/daemon/connection.ts";
import { DaemonPool } from "#worker/daemon/pool.ts";
import { type AttemptLink, type FetchedNar, PathUnavailableError, type Upload } from "#worker/link.ts";
import { basicDerivation } from "../support/derivations.ts";
import { type NixDaemon, nixOutput } from "../support/nix.ts";
import { quietLogger } from "../support/quiet-logger.ts";

interface StoredNar {
  readonly info: PathInfoField;
  readonly compression: string;
  readonly bytes: Uint8Array;
}

/** The server's store: what was pushed can be asked for and fetched. */
export class MemoryStore {
  readonly nars = new Map<StorePath, StoredNar>();

  async store({ info, compression, open }: Upload): Promise<void> {
    const bytes = await collect(open(), 64 * 1024 * 1024);
    for (const reference of info.references) {
      if (reference !== info.path && !this.nars.has(reference)) throw new Error(`${reference} was not pushed before`);
    }
    const hash = createHash("sha256");
    let size = 0;
    for await (const chunk of decompress(compression, streamOf(bytes)) ?? []) {
      hash.update(chunk);
      size += chunk.length;
    }
    if (size !== info.nar_size) throw new Error(`${info.path}: ${size} bytes instead of ${info.nar_size}`);
    if (hash.digest("hex") !== info.nar_hash) throw new Error(`${info.path}: wrong hash`);
    this.nars.set(info.path, { info, compression, bytes });
  }
}

type Overrides = Partial<Pick<AttemptLink, "queryCache" | "fetchNar" | "pushNar">>;

/** One attempt whose server is in memory. */
export class MemoryLink implements AttemptLink {
  readonly attemptId: string = randomUUID();
  readonly abort = new AbortController();
  readonly phases: string[] = [];
  readonly fetched: StorePath[] = [];
  readonly pushed: StorePath[] = [];
  readonly queries: (readonly StorePath[])[] = [];
  readonly #store: MemoryStore;
  readonly #overrides: Overrides;
  readonly #log: Uint8Array[] = [];
  onLog: (text: string) => void = () => {};
  place: Promise<void> = Promise.resolve();

  constructor(store: MemoryStore = new MemoryStore(), overrides: Overrides = {}) {
    this.#store = store;
    this.#overrides = overrides;
  }

  get signal(): AbortSignal {
    return this.abort.signal;
  }

  get logText(): string {
    return Buffer.concat(this.#log).toString();
  }

  phase(phase: string): void {
    this.phases.push(phase);
  }

  /** What waits for a place is prepared by then. */
  async builderPlace(): Promise<void> {
    this.phases.push("prepared");
    await this.place;
  }

  builderEnded(): void {
    this.phases.push("builder ended");
  }

  log(bytes: Uint8Array): void {
    this.#log.push(bytes);
    this.onLog(Buffer.from(bytes).toString());
  }

  async queryCache(paths: readonly StorePath[]): Promise<readonly PathInfoField[]> {
    this.queries.push(paths);
    if (this.#overrides.queryCache) return await this.#overrides.queryCache(paths);
    return paths.flatMap((path) => this.#store.nars.get(path)?.info ?? []);
  }

  async fetchNar(path: StorePath): Promise<FetchedNar> {
    this.fetched.push(path);
    return await (this.#overrides.fetchNar ?? ((wanted) => this.stored(wanted)))(path);
  }

  async stored(path: StorePath): Promise<FetchedNar> {
    const nar = this.#store.nars.get(path);
    if (!nar) throw new PathUnavailableError(path, "no cache has it");
    return { ...nar, fileSize: nar.bytes.length, body: streamOf(nar.bytes) };
  }

  async deliver(uploads: readonly Upload[]): Promise<void> {
    for (const upload of uploads) await this.pushNar(upload);
  }

  async pushNar(upload: Upload): Promise<void> {
    await (this.#overrides.pushNar ?? ((one) => this.#store.store(one)))(upload);
    this.pushed.push(upload.info.path);
  }

  message(): void {}
  queryDerivations(): Promise<boolean[]> {
    throw new Error("a build asks nothing about derivations");
  }
  sendBatch(): Promise<void> {
    throw new Error("a build sends no batch");
  }
  finish(): Promise<void> {
    throw new Error("the caller finishes");
  }
}

export function environmentOf(
  daemon: NixDaemon,
  options: Partial<BuildEnvironmentOptions> = {},
): BuildEnvironment & AsyncDisposable {
  const pool = options.pool ?? new DaemonPool({ socketPath: daemon.socketPath, maxConnections: 8 });
  const environment = createBuildEnvironment({
    pool,
    gcRootsDir: "",
    cores: null,
    logLimits: LOG_LIMITS,
    metering: { sampling: false, cgroupRoot: "/sys/fs/cgroup" },
    signer: null,
    storeRoot: daemon.root,
    log: quietLogger,
    clock: systemClock,
    ...options,
  });
  return { ...environment, [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose]() };
}

export interface Limits {
  readonly timeoutMs?: number;
  readonly maxSilentMs?: number;
}

/** The job that a server would send for a derivation of this daemon. */
export async function requestFor(daemon: NixDaemon, drvPath: StorePath, limits: Limits = {}): Promise<BuildRequest> {
  const { inputSources } = await basicDerivation(daemon, drvPath);
  const aterm = await readFile(join(daemon.root, drvPath));
  return { drvPath, aterm, inputs: [...inputSources], timeoutMs: 0, maxSilentMs: 0, ...limits };
}

/** Puts paths of a daemon's store, with all they refer to, into the server's. */
export async function publish(
  daemon: NixDaemon,
  paths: readonly StorePath[],
  store: MemoryStore,
  compression: "none" | "zstd" = "none",
): Promise<StorePath[]> {
  const closure = (await nixOutput(["nix-store", "-qR", ...paths], daemon.env)).split("\n") as StorePath[];
  using connection = await DaemonConnection.open(daemon.socketPath);
  for (const path of closure) {
    const info = await connection.queryPathInfo(path);
    if (!info) throw new Error(`${path} is not there`);
    await store.store({
      target: "output",
      info: {
        path,
        nar_hash: Buffer.from(info.narHash.digest).toString("hex"),
        nar_size: info.narSize,
        references: [...info.references],
        deriver: info.deriver,
        ca: info.contentAddress,
      },
      compression,
      open: () => (compression === "zstd" ? compressZstd(connection.narFromPath(info)) : connection.narFromPath(info)),
    });
  }
  return closure;
}
