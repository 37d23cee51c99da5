import { spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { asServer } from "./processes.ts";

export interface StaticServer extends AsyncDisposable {
  readonly url: string;
}

const START_MS_MAX = 5_000;

/** For GRADIENT_NGINX_STORAGE_LOCATION. */
export const STORAGE_LOCATION = "/internal-storage/";

export interface ProxiedServer {
  readonly url: string;
  readonly storage: string;
}

/** nginx with one worker on the servers' CPU, serving the folder's files without a log. */
export async function startNginx(folder: string): Promise<StaticServer> {
  return await start(`${folder}-nginx`, (port) => `server { listen 127.0.0.1:${port}; root ${folder}; }`);
}

/** The same before a server of ours, which names the file to send; public narinfos it keeps for a second. */
export async function startProxy(home: string, { url, storage }: ProxiedServer): Promise<StaticServer> {
  return await start(
    home,
    (port) => `upstream gradient { server ${new URL(url).host}; keepalive 32; }
  proxy_cache_path ${home}/micro keys_zone=gradient:10m max_size=64m inactive=10s;
  map $upstream_http_cache_control $gradient_kept { default 0; "~*(^|[ ,])public" 1; }
  map $gradient_kept $gradient_unkept { default 1; 1 ""; }
  open_file_cache max=1000 inactive=20s;
  server {
    listen 127.0.0.1:${port};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header X-Sendfile-Type X-Accel-Redirect;
    location / {
      proxy_pass http://gradient;
    }
    location ~ ^/cache/[^/]+/(?:[0-9a-z]+\\.narinfo|nix-cache-info)$ {
      proxy_pass http://gradient;
      proxy_cache gradient;
      proxy_cache_valid 200 1s;
      proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;
      proxy_no_cache $http_authorization $http_cookie $gradient_unkept;
      proxy_cache_bypass $http_authorization $http_cookie;
    }
    location ${STORAGE_LOCATION} {
      internal;
      alias ${storage}/;
      etag off;
      add_header ETag $upstream_http_etag;
    }
  }`,
  );
}

async function start(home: string, servers: (port: number) => string): Promise<StaticServer> {
  await mkdir(home);
  const port = await freePort();
  await writeFile(join(home, "nginx.conf"), configuration(home, servers(port)));
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
  keepalive_requests 100000000;
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
