import { spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { generatedSystems, PROXY_NAME } from "#test/nixos/support/generated-proxy.ts";
import { LOG_PATH, nginxConfiguration } from "#test/nixos/support/nginx.ts";
import { type MemoryFolder, withMemoryFolder } from "./memory-folder.ts";
import { asServer } from "./processes.ts";

export interface StaticServer extends AsyncDisposable {
  readonly url: string;
}

const START_MS_MAX = 5_000;
/** Of both sides: nginx would end a connection after a thousand requests. */
const KEPT_CONNECTIONS = "keepalive_requests 100000000;";

/** Of the module. */
export const STORAGE_LOCATION = "/internal-storage/";

/** As below /run. */
export interface ProxyLog extends MemoryFolder {
  /** What the module sets for a server behind its nginx that writes there. */
  readonly settings: Readonly<Record<string, string>>;
}

export async function makeProxyLog(): Promise<ProxyLog> {
  const folder = await withMemoryFolder();
  const settings = { GRADIENT_NGINX_STORAGE_LOCATION: STORAGE_LOCATION, GRADIENT_NGINX_LOG_PATH: folder.path };
  return { ...folder, settings };
}

export interface ProxiedServer {
  readonly url: string;
  readonly storage: string;
  readonly log: ProxyLog;
}

/** nginx with one worker on the servers' CPU, serving the folder's files without a log. */
export async function startNginx(folder: string): Promise<StaticServer> {
  const home = `${folder}-nginx`;
  return await start(home, (port) => configuration(home, `server { listen 127.0.0.1:${port}; root ${folder}; }`));
}

/** The same before a server of ours, as the NixOS module configures it, but without TLS. */
export async function startProxy(home: string, { url, storage, log }: ProxiedServer): Promise<StaticServer> {
  await using started = new AsyncDisposableStack();
  // On a NixOS it is below /run, in memory.
  const memory = started.use(await withMemoryFolder());
  const { nginx } = generatedSystems(Number(new URL(url).port)).nginx;
  const server = started.use(
    await start(home, (port) =>
      nginxConfiguration(nginx, PROXY_NAME, home, { user: "root", listen: `127.0.0.1:${port}`, http: KEPT_CONNECTIONS })
        .replace(`proxy_cache_path ${home}`, `proxy_cache_path ${memory.path}`)
        .replaceAll("/var/lib/gradient/storage", storage)
        .replaceAll(LOG_PATH, log.path),
    ),
  );
  const running = started.move();
  return { url: server.url, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

async function start(home: string, configured: (port: number) => string): Promise<StaticServer> {
  await mkdir(home);
  const port = await freePort();
  await writeFile(join(home, "nginx.conf"), configured(port));
  const arguments_ = ["-p", home, "-c", join(home, "nginx.conf"), "-e", join(home, "error.log")];
  const child = spawn(...asServer("nginx", arguments_), { stdio: "ignore" });
  const ended = new Promise((resolve) => child.once("close", resolve));
  child.once("error", () => {});
  const url = `http://127.0.0.1:${port}`;
  const deadline = performance.now() + START_MS_MAX;
  while (!(await fetch(url).catch(() => null))) {
    if (child.exitCode !== null || child.pid === undefined || performance.now() > deadline) {
      child.kill("SIGKILL");
      throw new Error(`nginx did not start: see ${home}/error.log, and install it if it is not there`);
    }
    await sleep(20);
  }
  return {
    url,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

function configuration(home: string, servers: string): string {
  const user = process.getuid?.() === 0 ? "user root;" : "";
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${home}/${name};`,
  );
  return `${user}
daemon off;
worker_processes 1;
pid ${home}/nginx.pid;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  ${KEPT_CONNECTIONS}
  default_type application/octet-stream;
  ${temporary.join("\n  ")}
  ${servers}
}
`;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
