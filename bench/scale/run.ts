import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kysely, PostgresDialect } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { migrate } from "#runtime/node/migrate.ts";
import { openPool } from "#runtime/node/pool.ts";
import { type DatabaseAddress, type RunningPostgres, startPostgres } from "#runtime/node/postgres/start.ts";
import { loadSecrets } from "#runtime/node/secrets.ts";
import { SERVICE_OPTIONS } from "#scripts/node-options.ts";
import { quietLogger } from "#test/support/quiet-logger.ts";
import { cpuMs, forgetPeak, peakMemoryBytes } from "../processes.ts";
import { insertInstallation, offerOutputs, readReadyTimes, requireCompleted } from "./installation.ts";
import { assignmentDelays } from "./latency.ts";
import type { ServerOrder } from "./server-process.ts";
import type { SlotEvent } from "./watch.ts";
import type { WorkersOrder } from "./workers-process.ts";

export const WORKERS = 50;
export const SLOTS = 16;
/** Of the pools, with room for those who look on. */
const CONNECTIONS = 64;

export interface ScaleOptions {
  readonly nodes: number;
  readonly uploads: boolean;
  /** See `WorkersOrder`. By default builds end at once. */
  readonly buildMs?: number;
  readonly ingestOnly?: boolean;
  readonly environment?: Readonly<Record<string, string>>;
  /** Called around each phase, for who wants to know what the database did in it. */
  readonly aroundPhase?: (db: Kysely<Database>, phase: "ingest" | "drain", at: "begin" | "end") => Promise<void>;
  /** Called with the database before anything is in it. */
  readonly prepare?: (postgres: RunningPostgres, start: () => Promise<RunningPostgres>) => Promise<RunningPostgres>;
}

export interface Phase {
  readonly ms: number;
  /** Of a processor, of all cores together. */
  readonly cpu: { readonly server: number; readonly workers: number; readonly postgres: number };
  readonly serverPeakBytes: number;
}

export interface ScaleResult {
  readonly nodes: number;
  readonly edges: number;
  readonly ingest: Phase;
  /** Null when only the ingest was measured. */
  readonly drain: Phase | null;
  /** Milliseconds. */
  readonly delays: readonly number[];
}

/** One graph, from the report of its derivations to the end of its last build, on an installation of its own. */
export async function runScale(options: ScaleOptions): Promise<ScaleResult> {
  const { nodes, uploads, buildMs = 0 } = options;
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "gradient-scale-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const start = () =>
    startPostgres({ folder: join(folder, "postgres"), log: quietLogger, connectionsMax: CONNECTIONS });
  const first = await start();
  const postgres = options.prepare ? await options.prepare(first, start) : first;
  stack.defer(() => postgres.stop());
  const pool = openPool(postgres.address, { name: "bench", connectionsMax: 2 });
  const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }) });
  stack.defer(() => db.destroy());
  await migrate(db);
  const secrets = await loadSecrets({ jwt: null, crypt: null }, join(folder, "secrets"), true);
  const { evaluationId: _, cacheId, ...installation } = await insertInstallation(db, secrets, WORKERS);

  const socketPath = join(folder, "socket");
  const serverOrder: ServerOrder = {
    environment: { GRADIENT_BASE_PATH: folder, GRADIENT_LOG_LEVEL: "warn", ...options.environment },
    databaseUrl: urlOf(postgres.address),
    socketPath,
  };
  const server = await Child.start(stack, "server-process.ts", serverOrder, options.environment);
  const workersOrder: WorkersOrder = { ...installation, socketPath, folder, slots: SLOTS, nodes, uploads, buildMs };
  const workers = await Child.start(stack, "workers-process.ts", workersOrder, options.environment);
  const { edges } = workers.greeting as { edges: number };

  const measure = async (phase: "ingest" | "drain"): Promise<Phase> => {
    await options.aroundPhase?.(db, phase, "begin");
    const look = async () => ({
      server: await cpuMs(server.pid),
      workers: await cpuMs(workers.pid),
      postgres: await cpuMs(postgres.pid),
    });
    await forgetPeak(server.pid);
    const before = await look();
    const ms = (await workers.ask(phase)) as number;
    const after = await look();
    const serverPeakBytes = await peakMemoryBytes(server.pid);
    await options.aroundPhase?.(db, phase, "end");
    const cpu = {
      server: after.server - before.server,
      workers: after.workers - before.workers,
      postgres: after.postgres - before.postgres,
    };
    return { ms, cpu, serverPeakBytes };
  };
  const ingest = await measure("ingest");
  if (options.ingestOnly) return { nodes, edges, ingest, drain: null, delays: [] };
  if (!uploads) await offerOutputs(db, cacheId);
  const drain = await measure("drain");
  await requireCompleted(db, nodes);
  const delays = assignmentDelays((await workers.ask("events")) as SlotEvent[], await readReadyTimes(db));
  return { nodes, edges, ingest, drain, delays };
}

/** A process of the benchmark's, which answers one question at a time. */
class Child {
  readonly #process: ChildProcess;
  readonly #ended: Promise<never>;
  greeting: unknown = null;

  private constructor(process: ChildProcess) {
    this.#process = process;
    this.#ended = new Promise((_, reject) => {
      process.once("exit", (code, signal) => reject(new Error(`a process of the benchmark ended: ${code ?? signal}`)));
    });
    this.#ended.catch(() => {});
  }

  static async start(
    stack: AsyncDisposableStack,
    file: string,
    order: unknown,
    environment: Readonly<Record<string, string>> = {},
  ): Promise<Child> {
    const process = fork(new URL(file, import.meta.url), [JSON.stringify(order)], {
      execArgv: [...SERVICE_OPTIONS],
      env: { PATH: globalThis.process.env.PATH, ...environment },
      serialization: "advanced",
    });
    const child = new Child(process);
    stack.defer(async () => {
      process.kill("SIGTERM");
      await child.#ended.catch(() => {});
    });
    child.greeting = await child.#next();
    return child;
  }

  get pid(): number {
    return this.#process.pid as number;
  }

  async ask(command: string): Promise<unknown> {
    const answer = this.#next();
    this.#process.send(command);
    return await answer;
  }

  #next(): Promise<unknown> {
    return Promise.race([this.#ended, new Promise((resolve) => this.#process.once("message", resolve))]);
  }
}

function urlOf({ host, port, user, password, database }: DatabaseAddress): string {
  return `postgresql://${user}:${password}@localhost:${port}/${database}?host=${encodeURIComponent(host)}`;
}
