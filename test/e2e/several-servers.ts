import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Kysely } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { withDatabase } from "../support/database.ts";
import { type NixDaemon, withNixDaemon } from "../support/nix.ts";
import { withTemporaryFolder } from "../support/temporary-folder.ts";
import { Api } from "./api.ts";
import { CACHE, freePort, ORGANIZATION } from "./gradient.ts";
import { type Service, startService } from "./process.ts";
import { withProxy } from "./proxy.ts";

export interface Machine {
  service: Service;
  start(): Promise<void>;
}

export interface ServerMachine extends Machine {
  /** Of this server alone. */
  readonly api: Api;
  readonly port: number;
}

export interface WorkerMachine extends Machine {
  readonly id: string;
  readonly daemon: NixDaemon;
}

/** Two servers on one database and one storage behind one proxy, and two workers that know the proxy only. */
export interface SeveralServers extends AsyncDisposable {
  readonly api: Api;
  readonly url: string;
  readonly folder: string;
  readonly db: Kysely<Database>;
  readonly servers: readonly [ServerMachine, ServerMachine];
  readonly workers: readonly [WorkerMachine, WorkerMachine];
}

/** A worker that is silent for so long loses what it has. */
const HEARTBEAT_SECONDS = "6";

export async function withSeveralServers(): Promise<SeveralServers> {
  await using started = new AsyncDisposableStack();
  const folder = started.use(await withTemporaryFolder()).path;
  const database = started.use(await withDatabase());
  const daemons = [started.use(await withNixDaemon()), started.use(await withNixDaemon())] as const;
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  await writeFile(join(folder, "crypt"), randomUUID());
  await writeFile(join(folder, "jwt"), randomUUID());

  const makeServer = async (name: string): Promise<ServerMachine> => {
    const own = await freePort();
    const environment = {
      GRADIENT_DATABASE_URL: database.url,
      GRADIENT_SHARED_STORAGE_PATH: join(folder, "storage"),
      GRADIENT_CRYPT_SECRET_FILE: join(folder, "crypt"),
      GRADIENT_JWT_SECRET_FILE: join(folder, "jwt"),
      GRADIENT_BASE_PATH: join(folder, name),
      GRADIENT_PORT: String(own),
      GRADIENT_SERVE_URL: url,
      GRADIENT_OUTBOUND_ALLOW: "127.0.0.1/32",
      GRADIENT_ALLOW_LOCAL_SOURCES: "true",
      GRADIENT_BUILD_RETRY_BACKOFF_SECS: "1",
      GRADIENT_WORKER_HEARTBEAT_TIMEOUT_SECS: HEARTBEAT_SECONDS,
    };
    const api = new Api(`http://127.0.0.1:${own}`);
    return await machine({ api, port: own }, "runtime/node/main.ts", environment, "the server is ready");
  };
  const servers = [await makeServer("one"), await makeServer("other")] as const;
  for (const server of servers) started.defer(() => server.service[Symbol.asyncDispose]());
  started.use(await withProxy(join(folder, "proxy"), { port, servers: servers.map((server) => server.port) }));

  const api = new Api(url);
  await setUp(api);
  for (const server of servers) server.api.token = api.token;
  const makeWorker = async (name: string, daemon: NixDaemon, evaluates: boolean): Promise<WorkerMachine> => {
    const id = randomUUID();
    const { peer_id, token } = await api.request<{ peer_id: string; token: string }>(
      "POST",
      `/orgs/${ORGANIZATION}/workers`,
      { worker_id: id },
    );
    await writeFile(join(folder, `${name}-peers`), `${peer_id}:${token}\n`);
    const environment = {
      NIX_REMOTE: daemon.storeUrl,
      NIX_CONF_DIR: daemon.env.NIX_CONF_DIR ?? "",
      GRADIENT_WORKER_SERVER_URL: `ws://127.0.0.1:${port}/proto`,
      GRADIENT_WORKER_DATA_DIR: join(folder, name),
      GRADIENT_WORKER_ID: id,
      GRADIENT_WORKER_PEERS_FILE: join(folder, `${name}-peers`),
      GRADIENT_WORKER_GCROOTS_DIR: join(folder, `${name}-roots`),
      GRADIENT_WORKER_ALLOW_LOCAL_SOURCES: "true",
      GRADIENT_WORKER_CAPABILITY_FETCH: String(evaluates),
      GRADIENT_WORKER_CAPABILITY_EVAL: String(evaluates),
      GRADIENT_WORKER_CAPABILITY_BUILD: "true",
      GRADIENT_MAX_CONCURRENT_BUILDS: "2",
    };
    return await machine({ id, daemon }, "worker/main.ts", environment, "connected to the server");
  };
  const workers = [await makeWorker("first", daemons[0], true), await makeWorker("second", daemons[1], false)] as const;
  for (const worker of workers) started.defer(() => worker.service[Symbol.asyncDispose]());
  const running = started.move();
  const dispose = () => running.disposeAsync();
  return { api, url, folder, db: database.db, servers, workers, [Symbol.asyncDispose]: dispose };
}

async function machine<T extends object>(
  about: T,
  script: string,
  environment: Readonly<Record<string, string>>,
  ready: string,
): Promise<T & Machine> {
  const made = {
    ...about,
    service: startService(script, environment),
    async start() {
      made.service = startService(script, environment);
      await made.service.waitFor(ready);
    },
  };
  await made.service.waitFor(ready);
  return made;
}

async function setUp(api: Api): Promise<void> {
  await api.signUp("ada");
  const described = { display_name: "Acme", description: "" };
  await api.request("PUT", "/orgs", { name: ORGANIZATION, ...described });
  await api.request("PUT", "/caches", { name: CACHE, ...described, priority: 40, public: true });
  await api.request("POST", `/orgs/${ORGANIZATION}/subscribe/${CACHE}`, {});
}
