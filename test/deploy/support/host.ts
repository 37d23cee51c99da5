import { randomUUID } from "node:crypto";
import { mkdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { End } from "#deploy-agent/ends.ts";
import { type Service, startService } from "../../e2e/process.ts";
import { type NixDaemon, nixOutput, runNix, withNixDaemon } from "../../support/nix.ts";
import { pathWithNix } from "../../support/nix-path.ts";
import { killProcesses, processesGiven, processesWith, withDescendants } from "../../support/processes.ts";
import { fakeSystemctl, fakeSystemdInhibit, fakeSystemdRun } from "./fake-systemd.ts";

/** What the agent of a host is told by its settings, as the NixOS module writes them. */
export interface AgentSettings {
  readonly server: string;
  /** `organization/project`. */
  readonly project: string;
  readonly apiKey: string;
}

/** What is to be seen of a host's system; store paths, null where there is none. */
export interface PresentSystem {
  /** What the system profile names. */
  readonly profile: string | null;
  readonly current: string | null;
  readonly booted: string | null;
  /** What the boot loader starts next. */
  readonly bootDefault: string | null;
}

export interface AgentRun {
  /** How it ended, as its JSON says; null for one that did not come to its end. */
  readonly end: End | null;
  readonly code: number | null;
  /** The sentence that goes with the end. */
  readonly reason: string | null;
  /** All that it wrote. */
  readonly output: string;
}

/** A machine that takes its system from Gradient: a fake root with a real Nix store and daemon of its own. */
export interface Host extends AsyncDisposable {
  readonly name: string;
  readonly daemon: NixDaemon;
  /** Stands for `/`. */
  readonly root: string;
  /** The agent's state directory. */
  readonly state: string;
  /** What the agent is started with; a test may change it between two runs. */
  readonly env: Record<string, string>;
  start(parameters?: readonly string[]): Service;
  /** Starts the agent and waits for its end. */
  run(...parameters: readonly string[]): Promise<AgentRun>;
  /** The shell commands that the switch script of the systems of that label runs, before or after the switch. */
  behave(label: string, commands: string, when?: "before" | "after"): Promise<void>;
  units(...failed: readonly string[]): Promise<void>;
  present(): Promise<PresentSystem>;
  /** The lines that switch scripts have written: `begin ACTION LABEL` and `end ACTION LABEL CODE`. */
  switches(): Promise<string[]>;
  /** Makes the system that the boot loader names the running one, as a start of the machine does. */
  boot(): Promise<void>;
  /** The first system, by hand as an installer would. */
  install(path: string, from: { readonly cache: string; readonly publicKey: string }): Promise<void>;
}

const FOLDERS = ["bin", "behaviour", "boot", "etc", "log", "run", "units"];

export async function withHost(name: string, told: AgentSettings): Promise<Host> {
  // Nobody's signature is trusted but what the server tells the agent.
  const daemon = await withNixDaemon({
    // Five attempts take four seconds.
    settings: { "trusted-public-keys": "", "require-sigs": "true", "download-attempts": "2" },
  });
  const { root } = daemon;
  const at = (path: string) => join(root, path);
  for (const part of FOLDERS) await mkdir(at(part), { recursive: true });
  const programs = { systemctl: fakeSystemctl, "systemd-run": fakeSystemdRun, "systemd-inhibit": fakeSystemdInhibit };
  for (const [program, script] of Object.entries(programs)) {
    await writeFile(at(`bin/${program}`), script(root), { mode: 0o755 });
  }
  const state = join(daemon.folder, "state");
  await mkdir(state, { mode: 0o700 });
  const env = await agentEnvironment(name, { daemon, state, told });
  const start = (parameters: readonly string[] = []): Service => startService("deploy-agent/main.ts", env, parameters);
  return {
    name,
    daemon,
    root,
    state,
    env,
    start,
    async run(...parameters) {
      const agent = start(["--json", ...parameters]);
      return readRun(await agent.ended, agent.output());
    },
    behave: (label, commands, when = "before") =>
      writeFile(at(`behaviour/${label}${when === "after" ? ".after" : ""}`), `${commands}\n`),
    units: (...failed) => writeFile(at("units/failed"), failed.map((unit) => `${unit}\n`).join("")),
    present: () => presentSystem(root),
    switches: () => linesOf(at("log/switch")),
    boot: () => boot(root),
    async install(path, { cache, publicKey }) {
      const options = ["--option", "substituters", cache, "--option", "trusted-public-keys", publicKey];
      await nixOutput(["nix-store", "--realise", path, ...options], daemon.env);
      await nixOutput(["nix-env", "-p", at(PROFILE), "--set", path], daemon.env);
      await nixOutput([`${root}${path}/bin/switch-to-configuration`, "boot"], {});
      await boot(root);
    },
    async [Symbol.asyncDispose]() {
      // A switch outlives its agent, and one of a test that failed may never end.
      killProcesses(await processesOf(root));
      await daemon[Symbol.asyncDispose]();
    },
  };
}

const PROFILE = "nix/var/nix/profiles/system";

interface Machine {
  readonly daemon: NixDaemon;
  readonly state: string;
  readonly told: AgentSettings;
}

async function agentEnvironment(name: string, { daemon, state, told }: Machine): Promise<Record<string, string>> {
  const { root, folder } = daemon;
  const keyFile = join(folder, "api-key");
  // As `echo` writes it.
  await writeFile(keyFile, `${told.apiKey}\n`, { mode: 0o600 });
  return {
    ...daemon.env,
    PATH: `${join(root, "bin")}:${pathWithNix()}`,
    STATE_DIRECTORY: state,
    GRADIENT_DEPLOY_SERVER: told.server,
    GRADIENT_DEPLOY_PROJECT: told.project,
    GRADIENT_DEPLOY_HOST: name,
    GRADIENT_DEPLOY_API_KEY_FILE: keyFile,
    GRADIENT_DEPLOY_STORE_ROOT: root,
    GRADIENT_DEPLOY_PROFILE: join(root, PROFILE),
    GRADIENT_DEPLOY_CURRENT_SYSTEM: join(root, "run/current-system"),
    GRADIENT_DEPLOY_BOOTED_SYSTEM: join(root, "run/booted-system"),
    GRADIENT_DEPLOY_BOOT_ID_FILE: join(root, "boot/id"),
    GRADIENT_DEPLOY_NETRC_FILE: join(root, "etc/netrc"),
    GRADIENT_DEPLOY_SYSTEMD: "true",
    // Nobody watches for long what is healthy at once.
    GRADIENT_DEPLOY_HEALTH_SETTLE_SECS: "0",
    GRADIENT_DEPLOY_HEALTH_GRACE_SECS: "1",
  };
}

async function presentSystem(root: string): Promise<PresentSystem> {
  const link = (path: string) => readlink(join(root, path)).catch(() => null);
  const generation = await link(PROFILE);
  return {
    profile: generation === null ? null : await link(join(PROFILE, "..", generation)),
    current: await link("run/current-system"),
    booted: await link("run/booted-system"),
    bootDefault: await link("boot/default"),
  };
}

async function boot(root: string): Promise<void> {
  const next = await readlink(join(root, "boot/default"));
  await rm(join(root, "run"), { recursive: true, force: true });
  await mkdir(join(root, "run"));
  await writeFile(join(root, "boot/id"), `${randomUUID()}\n`);
  for (const place of ["current-system", "booted-system"]) await symlink(next, join(root, "run", place));
}

/** All that runs on the host whose root this is: its daemon, agents and switches. */
export async function processesOf(root: string): Promise<number[]> {
  return await withDescendants([...(await processesGiven(root)), ...(await processesWith(root))]);
}

/** Whether the path and all that it needs are in the host's store, with the contents that Nix knows of them. */
export async function isWhole({ daemon }: Host, path: string): Promise<boolean> {
  const { code } = await runNix(["nix", "store", "verify", "--no-trust", "-r", path], daemon.env);
  return code === 0;
}

/** The agent's last line on standard output is one JSON object; what it wrote on the way may stand behind it. */
export function readRun(code: number | null, output: string): AgentRun {
  for (const line of output.split("\n").toReversed()) {
    if (!line.startsWith('{"end":')) continue;
    const { end, reason } = JSON.parse(line) as { end: End; reason: string | null };
    return { end, code, reason, output };
  }
  return { end: null, code, reason: null, output };
}

export async function linesOf(path: string): Promise<string[]> {
  return (await readFile(path, "utf8").catch(() => "")).split("\n").filter((line) => line !== "");
}
