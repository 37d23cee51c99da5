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

/** nginx with one worker on the servers' CPU, serving the folder's files without a log. */
export async function startNginx(folder: string): Promise<StaticServer> {
  const home = `${folder}-nginx`;
  await mkdir(home);
  const port = await freePort();
  await writeFile(join(home, "nginx.conf"), configuration(folder, home, port));
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

function configuration(folder: string, home: string, port: number): string {
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
  server { listen 127.0.0.1:${port}; root ${folder}; }
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
