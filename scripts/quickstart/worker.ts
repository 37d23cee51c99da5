import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { WorkerLiveView, WorkerRegistered, WorkerView } from "#core/api/workers.ts";
import { loadWorkerId } from "#worker/identity.ts";
import { SERVICE_OPTIONS } from "../node-options.ts";
import { ORGANIZATION } from "./account.ts";
import type { Api } from "./api.ts";
import type { DataFolder } from "./data-folder.ts";
import type { NixStore } from "./nix-store.ts";
import type { Tools } from "./requirements.ts";
import { Service } from "./service.ts";

export interface WorkerOptions {
  readonly root: string;
  readonly serverUrl: string;
  readonly store: NixStore;
  readonly tools: Tools;
  readonly environment: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

const PEERS_FILE = "worker/peers";
const WORKERS = `/api/v1/orgs/${ORGANIZATION}/workers`;
const CONNECT_MS_MAX = 30_000;
const STOP_MS = 2_000;

/** Registers a worker where that has not been done, starts it, and waits until the server has it. */
export async function startWorker(
  api: Api,
  data: DataFolder,
  options: WorkerOptions,
): Promise<{ readonly service: Service; readonly live: WorkerLiveView }> {
  const folder = await data.makeFolder("worker");
  const workerId = await loadWorkerId(folder, null);
  await register(api, data, workerId);
  const { root, serverUrl, store, tools, environment, signal } = options;
  const service = Service.start({
    name: "the worker",
    command: process.execPath,
    args: [...SERVICE_OPTIONS, join(root, "worker", "main.ts")],
    environment: {
      ...environment,
      ...store.variables,
      NIX_REMOTE: store.remote,
      GRADIENT_BINPATH_NIX: tools.nix,
      GRADIENT_WORKER_SERVER_URL: `${serverUrl.replace(/^http/, "ws")}/proto`,
      GRADIENT_WORKER_PEERS_FILE: data.at(PEERS_FILE),
      GRADIENT_WORKER_DATA_DIR: folder,
      GRADIENT_WORKER_GCROOTS_DIR: join(folder, "gcroots"),
      GRADIENT_WORKER_CAPABILITY_FETCH: "true",
      GRADIENT_WORKER_CAPABILITY_EVAL: "true",
      GRADIENT_WORKER_CAPABILITY_BUILD: "true",
      GRADIENT_WORKER_ALLOW_LOCAL_SOURCES: "true",
      GRADIENT_WORKER_EVAL_WORKERS: String(Math.min(4, availableParallelism())),
      GRADIENT_MAX_CONCURRENT_BUILDS: String(availableParallelism()),
    },
    folder: root,
    logPath: join(await data.makeFolder("logs"), "worker.log"),
    deathSignal: "KILL",
    stopMs: STOP_MS,
  });
  try {
    const live = await service.waitFor(() => findLive(api, workerId), CONNECT_MS_MAX, signal);
    return { service, live };
  } catch (error) {
    await service.stop();
    throw error;
  }
}

/** The token is shown once: a registration whose answer was lost is made again. */
async function register(api: Api, data: DataFolder, workerId: string): Promise<void> {
  const workers = await api.get<WorkerView[]>(WORKERS);
  const isRegistered = workers.some((worker) => worker.worker_id === workerId);
  if (isRegistered && (await data.read(PEERS_FILE)) !== null) return;
  if (isRegistered) await api.send("DELETE", `${WORKERS}/${workerId}`);
  const order = { worker_id: workerId, display_name: "Quickstart" };
  const { peer_id, token } = await api.send<WorkerRegistered>("POST", WORKERS, order);
  await data.keep(PEERS_FILE, `${peer_id}:${token}\n`);
}

async function findLive(api: Api, workerId: string): Promise<WorkerLiveView | null> {
  const workers = await api.get<WorkerView[]>(WORKERS);
  return workers.find((worker) => worker.worker_id === workerId)?.live ?? null;
}
