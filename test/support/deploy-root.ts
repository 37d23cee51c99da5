import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { SWITCH_SCRIPT, TOOLS } from "./deploy-tools.ts";
import { withTemporaryFolder } from "./temporary-folder.ts";

export const OLD = "/nix/store/00000000000000000000000000000000-nixos-system-h-1";
export const NEW = "/nix/store/11111111111111111111111111111111-nixos-system-h-2";
export const NEWER = "/nix/store/22222222222222222222222222222222-nixos-system-h-3";
export const API_KEY = "GRAD0123456789abcdef";

const MAIN = new URL("../../deploy-agent/main.ts", import.meta.url).pathname;
const TIMEOUT_MS = 60_000;
const PREFIX = "GRADIENT_DEPLOY_";
/** What outlasts a reset: the API key, the tools and what Node compiled. */
const KEPT = new Set(["key", "bin", "cache"]);

/** The links of a host that has and runs one system. */
export const both = (path: string): DeployRoot["links"] => ({ profile: path, running: path });

export interface AgentRun {
  readonly code: number | null;
  readonly json: Readonly<Record<string, unknown>>;
  readonly stderr: string;
}

/** A host without Nix and systemd, and a server that says what a test wants it to say. */
export class DeployRoot implements AsyncDisposable {
  readonly path: string;
  readonly #dispose: () => PromiseLike<void>;
  readonly #server: Server;
  readonly reports: Readonly<Record<string, unknown>>[] = [];
  readonly environment: Record<string, string> = {};
  wanted: Record<string, unknown> = {};
  /** Of every answer, when it is set. */
  status: number | null = null;
  reportStatus = 200;
  /** The answer to reports that hold text. */
  textStatus = 200;
  readonly #waiting = new Set<() => void>();

  constructor(path: string, server: Server, dispose: () => PromiseLike<void>) {
    this.path = path;
    this.#server = server;
    this.#dispose = dispose;
    server.on("request", (request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const answer = () => {
          const [status, message] = this.#answer(request.url ?? "", Buffer.concat(chunks).toString());
          response.writeHead(status, { "content-type": "application/json" });
          response.end(
            JSON.stringify(status === 200 ? { error: false, message } : { error: true, code: "x", message }),
          );
        };
        if (existsSync(join(path, "network-down"))) request.socket.destroy();
        else if (request.headers.authorization !== `Bearer ${API_KEY}`) response.writeHead(401).end();
        else if (!request.url?.includes(`seen=${(this.wanted.build as { build_id: string })?.build_id}`)) answer();
        else this.#waiting.add(answer);
      });
    });
  }

  #answer(url: string, body: string): readonly [number, unknown] {
    if (this.status !== null) return [this.status, "as the test wants it"];
    if (url === "/api/v1/health") return [200, "alive"];
    if (url.startsWith("/api/v1/projects/myorg/myproject/hosts/h/wanted")) return [200, this.wanted];
    if (url !== "/api/v1/projects/myorg/myproject/hosts/h/reports") return [404, `nothing is at ${url}`];
    const report = JSON.parse(body) as Record<string, unknown>;
    const status = report.reason === null ? this.reportStatus : Math.max(this.reportStatus, this.textStatus);
    if (status === 200) this.reports.push(report);
    return [status, { accepted: true }];
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What the server wants from now on; who waits for news is told. */
  offer(storePath: string, order: number, more: Readonly<Record<string, unknown>> = {}): void {
    const id = (kind: number) => `0199d1f5-0000-7000-8000-${String(order * 10 + kind).padStart(12, "0")}`;
    const build = {
      evaluation_id: id(1),
      build_id: id(2),
      order,
      store_path: storePath,
      commit: `c${order}`,
      nar_size: 1,
    };
    const key = `k-1:${Buffer.alloc(32).toString("base64")}`;
    const cache = { name: "main", url: `${this.origin}/cache/main`, public_keys: [key], private: true, priority: 10 };
    this.wanted = { state: "deploy", reason: null, build, caches: [cache], can_report: true, host: "h", ...more };
    for (const answer of this.#waiting) answer();
    this.#waiting.clear();
  }

  /** Puts a system where the tool "nix-store" fetches from, and what its switch does before it is done. */
  publish(storePath: string, behaviour = "", kernel = "linux-1"): void {
    this.#makeSystem(join(this.path, "remote", storePath.slice("/nix/store/".length)), behaviour, kernel);
  }

  install(storePath: string): void {
    this.#makeSystem(`${this.path}${storePath}`, "", "linux-1");
  }

  #makeSystem(folder: string, behaviour: string, kernel: string): void {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(join(folder, "bin"), { recursive: true });
    writeFileSync(join(folder, "bin/switch-to-configuration"), SWITCH_SCRIPT);
    chmodSync(join(folder, "bin/switch-to-configuration"), 0o755);
    writeFileSync(join(folder, "behaviour"), behaviour);
    symlinkSync(`/nix/store/${kernel}`, join(folder, "kernel"));
  }

  /** As it was at first: the old system alone and nothing remembered, and NEW is published and wanted. */
  reset(): void {
    for (const name of readdirSync(this.path)) {
      if (!KEPT.has(name)) rmSync(join(this.path, name), { recursive: true, force: true });
    }
    for (const name of Object.keys(this.environment)) delete this.environment[name];
    for (const [name, text] of Object.entries(TOOLS)) this.tool(name, text);
    [this.status, this.reportStatus, this.textStatus] = [null, 200, 200];
    this.install(OLD);
    mkdirSync(join(this.path, "run"), { recursive: true });
    mkdirSync(join(this.path, "state"), { recursive: true, mode: 0o700 });
    const profile = join(this.path, "nix/profiles/system");
    mkdirSync(dirname(profile), { recursive: true });
    symlinkSync(OLD, `${profile}-1-link`);
    symlinkSync("system-1-link", profile);
    for (const name of ["run/current-system", "run/booted-system"]) symlinkSync(OLD, join(this.path, name));
    this.write("kill-at", "0");
    this.write("moments", "0");
    this.write("boot-id", "first");
    this.reports.length = 0;
    this.publish(NEW);
    this.offer(NEW, 2);
  }

  /** A setting of the agent's by the end of its name. */
  set(name: string, value: string): void {
    this.environment[`${PREFIX}${name}`] = value;
  }

  /** Puts a shell script, to which `$root` is told, in the place of a tool of the host. */
  tool(name: string, text: string): void {
    writeFileSync(join(this.path, "bin", name), `#!/bin/sh\nroot='${this.path}'\n${text}`, { mode: 0o755 });
  }

  write(name: string, text: string): void {
    writeFileSync(join(this.path, name), text);
  }

  read(name: string): string {
    return existsSync(join(this.path, name)) ? readFileSync(join(this.path, name), "utf8") : "";
  }

  /** What the agent remembers. */
  state(): Readonly<Record<string, unknown>> {
    return JSON.parse(this.read("state/state.json"));
  }

  /** The steps that were reported. */
  steps(): unknown[] {
    return this.reports.map(({ step }) => step);
  }

  /** What was switched to, in order: `switch PATH`. */
  switches(): string[] {
    return this.read("switches").trim().split("\n");
  }

  link(name: string): string {
    return readlinkSync(join(this.path, name));
  }

  /** The profile and the running system. */
  get links(): { readonly profile: string; readonly running: string } {
    return {
      profile: this.link(`nix/profiles/${this.link("nix/profiles/system")}`),
      running: this.link("run/current-system"),
    };
  }

  /** A loss of power and what follows: what the boot loader has. */
  boot(): void {
    for (const name of ["run/current-system", "run/booted-system"]) {
      rmSync(join(this.path, name), { force: true });
      symlinkSync(this.link("boot-entry"), join(this.path, name));
    }
    this.write("boot-id", `${Math.random()}`);
  }

  start(...words: readonly string[]): ChildProcess {
    const env = {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: join(this.path, "cache"),
      ...this.#settings(),
      ...this.environment,
    };
    return spawn(process.execPath, [MAIN, "--json", ...words], { env, stdio: ["ignore", "pipe", "pipe"] });
  }

  async run(...words: readonly string[]): Promise<AgentRun> {
    return endOf(this.start(...words));
  }

  #settings(): Record<string, string> {
    const tools = Object.keys(TOOLS).map((name) => [
      `${PREFIX}BINPATH_${name.toUpperCase().replaceAll("-", "_")}`,
      join(this.path, "bin", name),
    ]);
    return {
      [`${PREFIX}SERVER`]: this.origin,
      [`${PREFIX}PROJECT`]: "myorg/myproject",
      [`${PREFIX}HOST`]: "h",
      [`${PREFIX}API_KEY_FILE`]: join(this.path, "key"),
      [`${PREFIX}STATE_DIR`]: join(this.path, "state"),
      [`${PREFIX}STORE_ROOT`]: this.path,
      [`${PREFIX}PROFILE`]: join(this.path, "nix/profiles/system"),
      [`${PREFIX}CURRENT_SYSTEM`]: join(this.path, "run/current-system"),
      [`${PREFIX}BOOTED_SYSTEM`]: join(this.path, "run/booted-system"),
      [`${PREFIX}BOOT_ID_FILE`]: join(this.path, "boot-id"),
      [`${PREFIX}NETRC_FILE`]: join(this.path, "own-netrc"),
      [`${PREFIX}SYSTEMD`]: "false",
      [`${PREFIX}DISK_MARGIN_MB`]: "0",
      [`${PREFIX}HEALTH_SETTLE_SECS`]: "0",
      [`${PREFIX}HEALTH_GRACE_SECS`]: "0",
      ...Object.fromEntries(tools),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await this.#dispose();
  }
}

/** Its last line on standard output is one object, unless it was killed. */
export async function endOf(child: ChildProcess): Promise<AgentRun> {
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS);
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(timer);
  return { code, stderr, json: stdout === "" ? {} : (JSON.parse(stdout) as Record<string, unknown>) };
}

export async function withDeployRoot(): Promise<DeployRoot> {
  const folder = await withTemporaryFolder();
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const root = new DeployRoot(folder.path, server, () => folder[Symbol.asyncDispose]());
  mkdirSync(join(folder.path, "bin"));
  writeFileSync(join(folder.path, "key"), `${API_KEY}\n`, { mode: 0o600 });
  root.reset();
  return root;
}
