import { chmod, mkdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Service, startService } from "../../e2e/process.ts";
import { type NixDaemon, nixOutput, runNix, withNixDaemon } from "../../support/nix.ts";
import { pathWithNix } from "../../support/nix-path.ts";
import { fakeSystemctl } from "./fake-systemctl.ts";

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
  readonly code: number | null;
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

export async function withHost(name: string, { server, project, apiKey }: AgentSettings): Promise<Host> {
  // Nobody's signature is trusted but what the server tells the agent.
  const daemon = await withNixDaemon({ settings: { "trusted-public-keys": "", "require-sigs": "true" } });
  const { root, folder } = daemon;
  for (const part of FOLDERS) await mkdir(join(root, part), { recursive: true });
  const systemctl = join(root, "bin", "systemctl");
  await writeFile(systemctl, fakeSystemctl(root));
  await chmod(systemctl, 0o755);
  const [state, keyFile] = [join(folder, "state"), join(folder, "api-key")];
  await mkdir(state, { mode: 0o700 });
  // As `echo` writes it.
  await writeFile(keyFile, `${apiKey}\n`, { mode: 0o600 });
  const env: Record<string, string> = {
    ...daemon.env,
    PATH: `${join(root, "bin")}:${pathWithNix()}`,
    STATE_DIRECTORY: state,
    GRADIENT_DEPLOY_SERVER: server,
    GRADIENT_DEPLOY_PROJECT: project,
    GRADIENT_DEPLOY_HOST: name,
    GRADIENT_DEPLOY_API_KEY_FILE: keyFile,
    GRADIENT_DEPLOY_ROOT: root,
  };
  const start = (parameters: readonly string[] = []): Service => startService("deploy-agent/main.ts", env, parameters);
  const at = (path: string) => join(root, path);
  const link = (path: string) => readlink(at(path)).catch(() => null);
  return {
    name,
    daemon,
    root,
    state,
    env,
    start,
    async run(...parameters) {
      const agent = start(parameters);
      return { code: await agent.ended, output: agent.output() };
    },
    behave: (label, commands, when = "before") =>
      writeFile(at(`behaviour/${label}${when === "after" ? ".after" : ""}`), `${commands}\n`),
    units: (...failed) => writeFile(at("units/failed"), failed.map((unit) => `${unit}\n`).join("")),
    async present() {
      return {
        profile: await profileOf(root),
        current: await link("run/current-system"),
        booted: await link("run/booted-system"),
        bootDefault: await link("boot/default"),
      };
    },
    switches: () => linesOf(at("log/switch")),
    async boot() {
      const next = await link("boot/default");
      if (next === null) throw new Error("there is nothing to boot");
      await rm(at("run"), { recursive: true, force: true });
      await mkdir(at("run"));
      for (const place of ["current-system", "booted-system"]) await symlink(next, at(`run/${place}`));
    },
    async install(path, { cache, publicKey }) {
      const options = ["--option", "substituters", cache, "--option", "trusted-public-keys", publicKey];
      await nixOutput(["nix-store", "--realise", path, ...options], daemon.env);
      await nixOutput(["nix-env", "-p", at("nix/var/nix/profiles/system"), "--set", path], daemon.env);
      await nixOutput([`${root}${path}/bin/switch-to-configuration`, "boot"], {});
      await this.boot();
    },
    [Symbol.asyncDispose]: () => daemon[Symbol.asyncDispose](),
  };
}

/** Whether the path and all that it needs are in the host's store, with the contents that Nix knows of them. */
export async function isWhole({ daemon }: Host, path: string): Promise<boolean> {
  const { code } = await runNix(["nix", "store", "verify", "--no-trust", "-r", path], daemon.env);
  return code === 0;
}

export async function linesOf(path: string): Promise<string[]> {
  return (await readFile(path, "utf8").catch(() => "")).split("\n").filter((line) => line !== "");
}

async function profileOf(root: string): Promise<string | null> {
  const profiles = join(root, "nix/var/nix/profiles");
  const generation = await readlink(join(profiles, "system")).catch(() => null);
  return generation === null ? null : await readlink(join(profiles, generation)).catch(() => null);
}
