import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { type NixDaemon, withNixDaemon } from "../support/nix.ts";
import { type TemporaryFolder, withTemporaryFolder } from "../support/temporary-folder.ts";
import { Api } from "./api.ts";
import { type Service, startService } from "./process.ts";

/** A whole installation: server, worker, nix-daemon, an organization with a cache, and a repository's folder. */
export interface Gradient extends AsyncDisposable {
  readonly url: string;
  readonly api: Api;
  readonly daemon: NixDaemon;
  readonly folder: string;
  /** Where the server keeps its objects. */
  readonly storage: string;
  /** What the server is started with; a test may change it between two starts. */
  readonly serverEnv: Record<string, string>;
  /** The same of the worker. */
  readonly workerEnv: Record<string, string>;
  server: Service;
  worker: Service;
  startServer(): Promise<void>;
  startWorker(): Promise<void>;
}

export const ORGANIZATION = "acme";
export const CACHE = "main";

/** Extra settings go into the environments of both programs, those of Nix into the machine's nix.conf. */
export async function withGradient(
  settings: Readonly<Record<string, string>> = {},
  nixSettings: Readonly<Record<string, string>> = {},
): Promise<Gradient> {
  await using started = new AsyncDisposableStack();
  const folder: TemporaryFolder = started.use(await withTemporaryFolder());
  const daemon = started.use(await withNixDaemon({ settings: nixSettings }));
  const port = Number(settings.GRADIENT_PORT ?? (await freePort()));
  const url = `http://127.0.0.1:${port}`;
  const serverEnv: Record<string, string> = {
    // Repositories and upstreams of tests are served from here.
    GRADIENT_OUTBOUND_ALLOW: "127.0.0.1/32",
    GRADIENT_SERVE_URL: url,
    ...settings,
    GRADIENT_BASE_PATH: join(folder.path, "server"),
    GRADIENT_PORT: String(port),
    GRADIENT_ALLOW_LOCAL_SOURCES: "true",
    GRADIENT_BUILD_RETRY_BACKOFF_SECS: "1",
  };
  const workerId = randomUUID();
  const peersFile = join(folder.path, "peers");
  const workerEnv: Record<string, string> = {
    ...settings,
    NIX_REMOTE: daemon.storeUrl,
    NIX_CONF_DIR: daemon.env.NIX_CONF_DIR ?? "",
    GRADIENT_WORKER_SERVER_URL: `ws://127.0.0.1:${port}/proto`,
    GRADIENT_WORKER_DATA_DIR: join(folder.path, "worker"),
    GRADIENT_WORKER_ID: workerId,
    GRADIENT_WORKER_PEERS_FILE: peersFile,
    GRADIENT_WORKER_GCROOTS_DIR: join(folder.path, "gcroots"),
    GRADIENT_WORKER_ALLOW_LOCAL_SOURCES: "true",
    GRADIENT_WORKER_CAPABILITY_FETCH: "true",
    GRADIENT_WORKER_CAPABILITY_EVAL: "true",
    GRADIENT_WORKER_CAPABILITY_BUILD: "true",
    GRADIENT_MAX_CONCURRENT_BUILDS: settings.GRADIENT_MAX_CONCURRENT_BUILDS ?? "4",
  };
  const installation = {
    url,
    api: new Api(url),
    daemon,
    folder: folder.path,
    storage: join(folder.path, "server", "storage"),
    serverEnv,
    workerEnv,
    server: startService("runtime/node/main.ts", serverEnv),
    worker: undefined as unknown as Service,
    async startServer() {
      installation.server = startService("runtime/node/main.ts", serverEnv);
      await installation.server.waitFor("the server is ready");
    },
    async startWorker() {
      installation.worker = startService("worker/main.ts", workerEnv);
      await installation.worker.waitFor("connected to the server");
    },
  };
  started.defer(() => installation.server[Symbol.asyncDispose]());
  await installation.server.waitFor("the server is ready");
  await setUp(installation.api, workerId, peersFile);
  // Also one that was started and has not reached the server.
  started.defer(() => installation.worker?.[Symbol.asyncDispose]());
  await installation.startWorker();
  const running = started.move();
  return Object.assign(installation, { [Symbol.asyncDispose]: () => running.disposeAsync() });
}

/** What a newcomer does first, by the API. */
async function setUp(api: Api, workerId: string, peersFile: string): Promise<void> {
  await api.signUp("ada");
  const described = { display_name: "Acme", description: "" };
  await api.request("PUT", "/orgs", { name: ORGANIZATION, ...described });
  await api.request("PUT", "/caches", { name: CACHE, ...described, priority: 40, public: true });
  await api.request("POST", `/orgs/${ORGANIZATION}/subscribe/${CACHE}`, {});
  const worker = await api.request<{ peer_id: string; token: string }>("POST", `/orgs/${ORGANIZATION}/workers`, {
    worker_id: workerId,
  });
  await writeFile(peersFile, `# the only organization\n${worker.peer_id}:${worker.token}\n`);
}

export async function addProject(api: Api, name: string, repository: string, wildcard: string): Promise<string> {
  await api.request("PUT", `/projects/${ORGANIZATION}`, {
    name,
    display_name: name,
    description: "",
    repository,
    wildcard,
  });
  return `${ORGANIZATION}/${name}`;
}

export async function publicKey(api: Api): Promise<string> {
  return await api.request("GET", `/caches/${CACHE}/public-key`);
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
