import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Certificate, makeCertificate } from "#test/support/certificate.ts";
import { evaluateSystems, type System } from "./evaluate.ts";
import { LOG_PATH, nginxConfiguration } from "./nginx.ts";
import { MINIMAL, sound, withServer } from "./systems.ts";

/** The name that the proxies of tests have: they are asked by their address. */
export const PROXY_NAME = "127.0.0.1";
const START_MS_MAX = 30_000;
/** `stream_close_delay` is of Caddy 2.7; Debian 12 has 2.6, which does what it says without being told. */
const CADDY_WITH_CLOSE_DELAY = 7;

export type ProxyKind = "nginx" | "caddy";

export interface ProxyPlaces {
  /** Made, for all that the proxy writes. */
  readonly folder: string;
  readonly port: number;
  readonly serverPort: number;
  readonly storage: string;
  /** Made, for nginx to write down what it sends. */
  readonly logPath: string;
  /** In the place of the web interface. */
  readonly pages: string;
  /** As nginx's `user` has it, where root starts it. By default a stranger of root's group, as nginx is there. */
  readonly user?: string;
}

export interface GeneratedProxy extends AsyncDisposable {
  /** `https://address:port` */
  readonly origin: string;
  readonly pid: number;
  /** Of nginx: a line for each request. */
  readonly requests: () => Promise<string[]>;
}

/** What the server's module writes for each of these proxies, with the server at that port. */
export function generatedSystems(serverPort: number): Record<ProxyKind, System> {
  const options = `services.gradient.domain = lib.mkForce "${PROXY_NAME}"; services.gradient.port = ${serverPort};`;
  const caddy = `services.gradient.reverseProxy = {
    nginx.enable = lib.mkForce false;
    caddy = { enable = true; useACMEHost = "${PROXY_NAME}"; };
  };`;
  const systems = evaluateSystems({ nginx: withServer(MINIMAL, options), caddy: withServer(MINIMAL, options, caddy) });
  return { nginx: sound(systems.nginx), caddy: sound(systems.caddy) };
}

/** A certificate for `startGenerated`, as files in the folder. */
export async function writeCertificate(folder: string): Promise<Certificate> {
  const tls = makeCertificate(PROXY_NAME);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "tls.pem"), tls.certificate);
  await writeFile(join(folder, "tls.key"), tls.key, { mode: 0o600 });
  return tls;
}

/** Starts nginx or Caddy as the module configures it, with the files of this machine in the places of a NixOS's. */
export async function startGenerated(kind: ProxyKind, system: System, places: ProxyPlaces): Promise<GeneratedProxy> {
  const { folder, port } = places;
  const accessLog = join(folder, "access.log");
  const { args, file, text } =
    kind === "nginx" ? nginxOf(system, places, accessLog) : caddyOf(system.caddy.virtualHosts, places);
  await writeFile(join(folder, file), text);
  const child = spawn(kind, args, {
    env: { PATH: process.env.PATH, HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = once(child, "close");
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (words: string) => {
    said = (said + words).slice(-10_000);
  });
  const deadline = performance.now() + START_MS_MAX;
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error(`${kind} ended with ${child.exitCode}: ${said}`);
    if (performance.now() > deadline) throw new Error(`${kind} does not listen: ${said}`);
    await sleep(20);
  }
  return {
    origin: `https://${PROXY_NAME}:${port}`,
    pid: child.pid as number,
    requests: async () => (await readFile(accessLog, "utf8")).trim().split("\n"),
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      const hard = setTimeout(() => child.kill("SIGKILL"), START_MS_MAX);
      await ended;
      clearTimeout(hard);
    },
  };
}

interface Started {
  readonly args: readonly string[];
  readonly file: string;
  readonly text: string;
}

function nginxOf({ nginx }: System, places: ProxyPlaces, accessLog: string): Started {
  const { folder, port, storage, logPath, pages, user } = places;
  const file = "nginx.conf";
  const text = nginxConfiguration(nginx, PROXY_NAME, folder, { user: user ?? "nobody root", accessLog })
    .replace("127.0.0.1:8443", `127.0.0.1:${port}`)
    .replaceAll(/\/nix\/store\/\S+\/share\/gradient-frontend/g, pages)
    .replaceAll("/var/lib/gradient/storage", storage)
    .replaceAll(LOG_PATH, logPath);
  return { args: ["-p", folder, "-c", join(folder, file), "-e", "stderr"], file, text };
}

/** As the module of NixOS for Caddy writes a site whose certificate is that of an ACME host. */
function caddyOf(sites: System["caddy"]["virtualHosts"], { folder, port, pages }: ProxyPlaces): Started {
  const file = "Caddyfile";
  const { stdout } = spawnSync("caddy", ["version"], { encoding: "utf8" });
  const minor = Number(/^v?2\.(\d+)\./.exec(stdout)?.[1] ?? 0);
  const blocks = Object.entries(sites).map(([name, { extraConfig }]) => {
    const known =
      minor < CADDY_WITH_CLOSE_DELAY ? extraConfig.replaceAll(/^\s*stream_close_delay .*\n/gm, "") : extraConfig;
    return `${name} {\ntls ${folder}/tls.pem ${folder}/tls.key\n${known}\n}`;
  });
  const global = `{
  admin off
  auto_https disable_redirects
  default_bind 127.0.0.1
  https_port ${port}
  servers {
    protocols h1 h2
  }
}`;
  const text = [global, ...blocks].join("\n").replaceAll(/\/nix\/store\/\S+\/share\/gradient-frontend/g, pages);
  return { args: ["run", "--adapter", "caddyfile", "--config", join(folder, file)], file, text };
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
