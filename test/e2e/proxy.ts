import { spawn, spawnSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const PROGRAM = "nginx";
const START_MS_MAX = 10_000;

/** Whether nginx is on the machine. */
export function nginxAvailable(): boolean {
  return spawnSync(PROGRAM, ["-v"]).status === 0;
}

export interface ProxyOptions {
  readonly port: number;
  readonly servers: readonly number[];
  /** The storage folder, which the proxy reads as the location `STORAGE_LOCATION` when a server tells it to. */
  readonly storage?: string;
  /** As nginx's `user` has it; what starts as root stays root without it. */
  readonly user?: string;
}

/** For GRADIENT_NGINX_STORAGE_LOCATION. */
export const STORAGE_LOCATION = "/internal-storage/";

/** An nginx on this port that gives each request or WebSocket to the server with the fewest, of those that answer. */
export async function withProxy(folder: string, options: ProxyOptions): Promise<AsyncDisposable> {
  const { port } = options;
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "nginx.conf"), configuration(folder, options));
  const child = spawn(PROGRAM, ["-p", folder, "-c", join(folder, "nginx.conf"), "-e", join(folder, "error.log")], {
    stdio: "ignore",
  });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const deadline = performance.now() + START_MS_MAX;
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error(`nginx ended with ${child.exitCode}: see ${folder}/error.log`);
    if (performance.now() > deadline) throw new Error("nginx does not listen");
    await sleep(20);
  }
  return {
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

function configuration(folder: string, options: ProxyOptions): string {
  const { port, servers, storage, user = "root" } = options;
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `
${process.getuid?.() === 0 ? `user ${user};` : ""}
daemon off;
worker_processes 1;
pid ${folder}/pid;
events { worker_connections 256; }
http {
  access_log off;
${temporary.map((name) => `  ${name}_temp_path ${folder}/${name};`).join("\n")}
  upstream gradient {
    least_conn;
${servers.map((server) => `    server 127.0.0.1:${server} max_fails=1 fail_timeout=1s;`).join("\n")}
  }
  map $http_upgrade $connection_upgrade { default upgrade; '' close; }
  server {
    listen 127.0.0.1:${port};
    client_max_body_size 0;
    proxy_http_version 1.1;
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    proxy_request_buffering off;
    proxy_connect_timeout 2s;
    proxy_read_timeout 1h;
    ${storage === undefined ? "" : "proxy_set_header X-Sendfile-Type X-Accel-Redirect;"}
    location / {
      proxy_pass http://gradient;
      proxy_buffering off;
    }
    ${storage === undefined ? "" : storageLocation(storage)}
  }
}
`;
}

/** As docs/decisions/0153-storage.md has it. The tag is the server's: nginx would make one of the file's time. */
function storageLocation(storage: string): string {
  return `location ${STORAGE_LOCATION} {
      internal;
      alias ${storage}/;
      sendfile on;
      tcp_nopush on;
      etag off;
      add_header ETag $upstream_http_etag;
      add_header Last-Modified "";
    }`;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
