import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { WebSocket } from "ws";
import { readConfig } from "#runtime/node/config.ts";
import { WebSocketAdapter } from "#runtime/node/hub/websocket.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { startServer } from "#runtime/node/server.ts";
import { Api } from "#test/e2e/api.ts";
import { type TestDatabase, withDatabase } from "#test/support/database.ts";
import { FakeWorker, type FakeWorkerOptions } from "#test/support/fake-worker.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";

/** Machines of tests are slow at times. */
export const WAIT: { readonly timeout: number } = { timeout: 30_000 };

export type Options = Readonly<Record<string, string>>;

/** A database and a folder for servers that are started one after the other, each with options of its own. */
export interface Place extends AsyncDisposable {
  readonly db: TestDatabase["db"];
  readonly folder: string;
  /** The options that every server needs to reach them. */
  readonly required: Options;
  start(options?: Options): Promise<StartedServer>;
}

export interface StartedServer extends AsyncDisposable {
  readonly url: string;
  /** What it has logged so far. */
  readonly logged: readonly Record<string, unknown>[];
  api(): Api;
}

export async function withPlace(): Promise<Place> {
  await using stack = new AsyncDisposableStack();
  const { path: folder } = stack.use(await withTemporaryFolder());
  const database = stack.use(await withDatabase());
  const file = async (name: string, text: string) => {
    await writeFile(join(folder, name), text);
    return join(folder, name);
  };
  const required = {
    GRADIENT_BASE_PATH: join(folder, "base"),
    GRADIENT_PORT: "0",
    GRADIENT_DATABASE_URL_FILE: await file("database-url", `${database.url}\n`),
    GRADIENT_JWT_SECRET_FILE: await file("jwt-secret", `${"j".repeat(48)}\n`),
    GRADIENT_CRYPT_SECRET_FILE: await file("crypt-secret", `${"c".repeat(48)}\n`),
  };
  const all = stack.move();
  const start = (options: Options = {}) => startWith({ ...required, ...options });
  return { db: database.db, folder, required, start, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** A server with nothing but these options, in this process. */
export async function startWith(options: Options): Promise<StartedServer> {
  const { config } = readConfig(options);
  const logged: Record<string, unknown>[] = [];
  const write = (line: string) => void logged.push(JSON.parse(line));
  const server = await startServer(config, createLoggers(config.logLevels, { write }));
  return { url: server.url, logged, api: () => new Api(server.url), [Symbol.asyncDispose]: () => server.close() };
}

/** A worker on a real WebSocket to the server. */
export function workerOf(server: StartedServer, options: FakeWorkerOptions = {}): FakeWorker {
  return new FakeWorker((near) => {
    const socket = new WebSocket(`${server.url.replace(/^http/, "ws")}/proto`, { perMessageDeflate: false });
    const far = new WebSocketAdapter(socket);
    const opened = new Promise<void>((resolve) => socket.once("open", resolve));
    near.onMessage = (data) => void opened.then(() => far.send(data)).catch(() => {});
    far.onMessage = (data) => void near.send(data).catch(() => {});
    near.onClose = (reason) => far.close(1000, reason);
    far.onClose = (reason) => near.close(1006, reason);
  }, options);
}

/** A signed-in person with an organization that has a cache, and a worker of it that has gone through the handshake. */
export async function withWorker(server: StartedServer, api: Api, organization: string): Promise<FakeWorker> {
  const workerId = crypto.randomUUID();
  const path = `/orgs/${organization}/workers`;
  const { peer_id, token } = await api.request<{ peer_id: string; token: string }>("POST", path, {
    worker_id: workerId,
  });
  const worker = workerOf(server, { workerId, tokens: { [peer_id]: token } });
  await worker.register();
  return worker;
}

/** An organization of the person with a cache of its own. */
export async function addOrganization(api: Api, name: string): Promise<void> {
  await api.request("PUT", "/orgs", { name, display_name: name, description: "" });
  await api.request("PUT", "/caches", { name, display_name: name, description: "", priority: 40 });
  await api.request("POST", `/orgs/${name}/subscribe/${name}`, {});
}
