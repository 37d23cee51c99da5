import { join } from "node:path";
import { systemClock } from "#core/lib/clock.ts";
import { clearGcRoots } from "./build/gc-roots.ts";
import { readWorkerConfig, type WorkerConfig, WorkerConfigError } from "./config.ts";
import type { Environment } from "./config-reader.ts";
import { ListenError } from "./dial-listener.ts";
import { removeLeftOverrides } from "./evaluation/input-overrides.ts";
import type { ProcessUser } from "./evaluation/process.ts";
import { EvaluatorUserError, requireEvaluatorUser } from "./evaluator-user.ts";
import { type AssembledRelay, assembleRelay } from "./federation/assemble-relay.ts";
import { makeFolder } from "./folders.ts";
import { IdentityError, loadWorkerId } from "./identity.ts";
import { endLeftProcesses, removeLeftSockets } from "./left-processes.ts";
import { createLoggers, type WorkerLoggers } from "./logger.ts";
import { EVALUATION_FOLDER } from "./organization-places.ts";
import { openServerConnection, type ServerConnection } from "./server-connection.ts";
import { loadSigner, type Signer, SigningKeyError } from "./signing-key.ts";
import { endLeftDaemons } from "./store/left-daemon.ts";
import { STORES_FOLDER } from "./store/organization-stores.ts";
import { readStoreFacts, type StoreFacts, StoreUnusableError } from "./store-facts.ts";

/** All that is known before the first connection to a server. */
export interface PreparedWorker {
  readonly config: WorkerConfig;
  readonly loggers: WorkerLoggers;
  readonly workerId: string;
  readonly facts: StoreFacts;
  /** Null: evaluators run as the worker's own user. */
  readonly evaluatorUser: ProcessUser | null;
  /** Null: this worker does not sign. */
  readonly signer: Signer | null;
  /** Where it listens, it listens already. */
  readonly connection: ServerConnection;
}

/** The worker cannot start. The message is for the operator: what is wrong and what to do. */
export class StartError extends Error {
  override readonly name = "StartError";
}

type Begun = Pick<PreparedWorker, "config" | "loggers" | "workerId">;

/** Reads the configuration and gets ready what it asks for: a worker, or a relay. Throws `StartError`. */
export async function prepare(environment: Environment): Promise<PreparedWorker | AssembledRelay> {
  return await explained(async () => {
    const begun = await begin(environment);
    const { federation } = begun.config;
    return federation === null ? await prepareStore(begun) : await assembleRelay(begun.config, federation, begun);
  });
}

/** Reads the configuration, makes the data folder and asks the nix-daemon. Throws `StartError`. */
export async function prepareWorker(environment: Environment): Promise<PreparedWorker> {
  return await explained(async () => await prepareStore(await begin(environment)));
}

async function begin(environment: Environment): Promise<Begun> {
  const { config, warnings } = readWorkerConfig(environment);
  const loggers = createLoggers(config.logLevels);
  for (const warning of warnings) loggers.main.warn(warning);
  await makeDataFolder(config);
  const workerId = await loadWorkerId(config.dataDir, config.workerId);
  await makeLogFolder(config);
  return { config, loggers, workerId };
}

async function prepareStore({ config, loggers, workerId }: Begun): Promise<PreparedWorker> {
  await makeGcRootsFolder(config);
  // No attempt of an earlier process is still built here.
  await clearGcRoots(config.gcRootsDir ?? "");
  await endLeftProcesses(config.dataDir);
  await removeLeftSockets(config.dataDir);
  await removeLeftOverrides(join(config.dataDir, EVALUATION_FOLDER));
  await endLeftDaemons(join(config.dataDir, STORES_FOLDER), systemClock);
  const keyPlace = { file: config.signingKeyFile, dataDir: config.dataDir, workerId };
  const signer = config.capabilities.sign ? await loadSigner(keyPlace) : null;
  const facts = await readStoreFacts(config);
  const prepared = { config, loggers, workerId, facts, evaluatorUser: await requireEvaluatorUser(config), signer };
  // Last, and nothing may fail after it: nobody would close it.
  return { ...prepared, connection: await openServerConnection(config, { workerId, log: loggers.proto }) };
}

async function explained<T>(preparing: () => Promise<T>): Promise<T> {
  try {
    return await preparing();
  } catch (error) {
    throw isExpected(error) ? new StartError(error.message, { cause: error }) : error;
  }
}

/** An evaluator of another user has to pass through it. What is there already keeps its mode. */
async function makeDataFolder({ dataDir, evaluatorUser }: WorkerConfig): Promise<void> {
  // Where this fails, the step that needs the folder says what to do.
  if (evaluatorUser !== null) await makeFolder(dataDir, 0o711).catch(() => {});
}

async function makeLogFolder({ dataDir }: WorkerConfig): Promise<void> {
  try {
    await makeFolder(join(dataDir, "logs"), 0o700);
  } catch (error) {
    throw new StartError(
      `${dataDir} cannot be used (${(error as Error).message}): make it writable for this user, or name another ` +
        "folder in GRADIENT_WORKER_DATA_DIR",
      { cause: error },
    );
  }
}

async function makeGcRootsFolder({ gcRootsDir }: WorkerConfig): Promise<void> {
  if (gcRootsDir === null) return;
  try {
    await makeFolder(gcRootsDir, 0o755);
  } catch (error) {
    throw new StartError(
      `${gcRootsDir} cannot be made (${(error as Error).message}): name a folder that this user may write to in ` +
        "GRADIENT_WORKER_GCROOTS_DIR, or set it to the empty text to let running builds go unpinned",
      { cause: error },
    );
  }
}

const EXPECTED = ["DaemonConnectionError", "DaemonProtocolError", "ProcessStartError", "StartError"];

function isExpected(error: unknown): error is Error {
  if (error instanceof WorkerConfigError || error instanceof IdentityError) return true;
  if (error instanceof SigningKeyError || error instanceof ListenError) return true;
  if (error instanceof StoreUnusableError || error instanceof EvaluatorUserError) return true;
  return error instanceof Error && EXPECTED.includes(error.name);
}
