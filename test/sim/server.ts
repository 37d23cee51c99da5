import type { Kysely } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { uuidV7 } from "#core/lib/ids.ts";
import { generateKeyPair, type SecretKey, sign } from "#core/nix/signature.ts";
import type { Codec } from "#core/ports/codec.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { Outbound } from "#core/ports/outbound.ts";
import { Upstreams } from "#core/services/upstreams.ts";
import { nodeHasher } from "#runtime/node/hasher.ts";
import type { HubDeps } from "#runtime/node/hub/deps.ts";
import { Hub } from "#runtime/node/hub/hub.ts";
import { memoryBlobs } from "../support/memory-blobs.ts";
import type { SimulatedDatabase } from "./database.ts";
import type { Network } from "./network.ts";
import type { Random } from "./random.ts";
import { SimulatedProcess, type Simulator } from "./simulator.ts";
import type { WakeUps } from "./wake-ups.ts";

export const LEASE_MS = 60_000;
export const RETRY = { attemptsMax: 3, backoffMs: 5_000 };

export interface ServerMachine {
  readonly number: number;
  readonly simulator: Simulator;
  readonly database: SimulatedDatabase;
  readonly network: Network;
  readonly random: Random;
  readonly secretKey: SecretKey;
  /** Where the blobs are: what several servers share has a name. Null is this server's own folder. */
  readonly storage: string | null;
  /** They outlive the process. */
  readonly blobs: Map<string, Uint8Array>;
  readonly wakeUps: WakeUps;
}

/** The server's process: the real hub on ports that the simulation owns. */
export class SimulatedServer {
  readonly process: SimulatedProcess;
  readonly deps: HubDeps;
  readonly #machine: ServerMachine;
  #hub: Hub | null = null;

  constructor(machine: ServerMachine) {
    const { simulator, random } = machine;
    const clockErrorMs = random.chance(0.3) ? random.between(-300_000, 300_000) : 0;
    this.#machine = machine;
    this.process = new SimulatedProcess(simulator, `server ${machine.number}`, clockErrorMs);
    this.deps = makeDeps(machine, this.process, machine.database.open(this.process));
    this.process.onDeath(() => {
      machine.network.listening.delete(machine.number);
    });
  }

  /** Resolves when it listens; dies when it cannot start, as a process does. */
  async start(): Promise<void> {
    try {
      const hub = await Hub.start(this.deps);
      this.#hub = hub;
      this.#machine.network.listening.set(this.#machine.number, (link) => {
        hub.accept(link.toServer);
        return this.process;
      });
      this.process.note("listens");
    } catch (error) {
      this.process.die(`could not start: ${String(error)}`);
    }
  }

  /** Asked to stop, as by SIGTERM. */
  async stop(): Promise<void> {
    this.#machine.network.listening.delete(this.#machine.number);
    await this.#hub?.close();
    await this.process.pause(100);
    this.process.die("stopped");
  }

  get sessions(): number {
    return this.#hub?.connections ?? 0;
  }
}

/** A key whose import is done, since that takes a thread. */
export async function makeSigningKey(): Promise<SecretKey> {
  const { secretKey } = await generateKeyPair("simulation");
  await sign(secretKey, "");
  return secretKey;
}

function makeDeps(machine: ServerMachine, process: SimulatedProcess, db: Kysely<Database>): HubDeps {
  const random = machine.random.fork();
  const common = {
    db,
    clock: process.clock,
    random: random.bytes,
    notifier: machine.wakeUps.open(process),
    log: makeLogger(process),
    outbound: noOutbound,
    codec: identityCodec,
    hasher: nodeHasher,
  };
  const secrets = { open: () => Promise.reject(new Error("no upstream is private here")) };
  return {
    ...common,
    blobs: memoryBlobs(machine.blobs, { now: () => new Date(process.clock.now()) }),
    passwords: { hash: async (secret) => secret, verify: async (stored, secret) => stored === secret },
    secretKeyOf: async () => machine.secretKey,
    sshKeyOf: async () => "a private key",
    upstreams: new Upstreams({ ...common, secrets, viaName: "simulation", upstreamQueriesMax: 4 }),
    retry: RETRY,
    leaseMs: LEASE_MS,
    server: { id: uuidV7(process.clock.now(), random.bytes), storage: machine.storage },
    limits: {
      discoverable: true,
      maxProtoConnections: 16,
      maxConcurrentNarServes: 4,
      narStorageOpenTimeoutMs: 30_000,
      narSendChunkTimeoutMs: 30_000,
      maxNarBufferBytes: 2 ** 30,
      workerSampleIntervalMs: 15_000,
      workerHeartbeatTimeoutMs: LEASE_MS,
      build: { timeoutMs: 0, maxSilentMs: 0 },
      evaluation: { timeoutMs: 3_600_000, attributesMax: 1_000, derivationsMax: 1_000, messagesMax: 1_000 },
    },
  };
}

export function makeLogger(process: SimulatedProcess): Logger {
  const write =
    (level: string) =>
    (message: string, fields: Readonly<Record<string, unknown>> = {}) => {
      const { error, ...rest } = fields;
      const why = error instanceof Error ? ` (${error.message})` : "";
      process.note(`${level} ${message}${why} ${JSON.stringify(rest)}`);
    };
  const logger: Logger = {
    debug: () => {},
    info: write("info"),
    warn: write("warn"),
    error: write("error"),
    with: () => logger,
  };
  return logger;
}

/** What is said to be zstd is the NAR itself: compression is not what is looked at here. */
const identityCodec: Codec = { decompress: (_compression, body) => body, compressZstd: (body) => body };

const noOutbound: Outbound = {
  get: async () => {
    throw new Error("a simulated server reaches nobody");
  },
};
