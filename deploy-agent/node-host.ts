import { existsSync, readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";
import { type Clock, MINUTE, SECOND } from "#core/lib/clock.ts";
import { lastWords, runCommand } from "./commands.ts";
import type { WantedCache } from "./decide.ts";
import { download, rootPlace } from "./download.ts";
import { parseInhibitors } from "./inhibitors.ts";
import type { SwitchStep, WorkResult } from "./machine.ts";
import type { Host } from "./ports.ts";
import { generations, linkTarget } from "./profile.ts";
import type { DeploySettings, Environment } from "./read-settings.ts";
import type { SystemView } from "./state.ts";
import { Switcher } from "./switcher.ts";

const COMMAND_TIMEOUT_MS = 30 * SECOND;
/** It may wait for a garbage collection. */
const PROFILE_TIMEOUT_MS = 10 * MINUTE;
/** What a kernel that runs was booted with. */
const BOOT_LINKS = ["kernel", "initrd", "kernel-modules"] as const;

/** The host that this process runs on, as far as the settings do not say otherwise. */
export class NodeHost implements Host {
  readonly #settings: DeploySettings;
  readonly #apiKey: () => string;
  readonly #signal: AbortSignal;
  readonly #switcher: Switcher;

  constructor(
    settings: DeploySettings,
    {
      apiKey,
      clock,
      signal,
      environment,
    }: {
      /** Called where a download needs it; may throw. */
      readonly apiKey: () => string;
      readonly clock: Clock;
      readonly signal: AbortSignal;
      readonly environment: Environment;
    },
  ) {
    this.#settings = settings;
    this.#apiKey = apiKey;
    this.#signal = signal;
    const hasSystemd = settings.systemd === "auto" ? existsSync("/run/systemd/system") : settings.systemd === "true";
    this.#switcher = new Switcher({ settings, hasSystemd, clock, signal, environment });
  }

  view(): SystemView {
    const { profile, currentSystem, bootedSystem } = this.#settings;
    const generation = /-(\d{1,9})-link$/.exec(linkText(profile) ?? "")?.[1];
    return {
      profilePath: linkTarget(profile),
      generation: generation === undefined ? null : Number(generation),
      runningPath: linkTarget(currentSystem),
      bootedPath: linkTarget(bootedSystem),
    };
  }

  bootId(): string | null {
    try {
      return readFileSync(this.#settings.bootIdFile, "utf8").trim().slice(0, 100) || null;
    } catch {
      return null;
    }
  }

  async failedUnits(): Promise<readonly string[] | null> {
    const words = [
      "list-units",
      "--state=failed,auto-restart",
      "--all",
      "--plain",
      "--no-legend",
      "--full",
      "--no-pager",
    ];
    const { code, stdout } = await runCommand(this.#settings.commands.systemctl, words, {
      timeoutMs: COMMAND_TIMEOUT_MS,
    });
    if (code !== 0) return null;
    const units = stdout.split("\n").map((line) => /^[^A-Za-z0-9]*(\S+\.[a-z]+)\s/.exec(line)?.[1]);
    return units.filter((unit) => unit !== undefined).sort();
  }

  download(target: { readonly storePath: string }, caches: readonly WantedCache[]): Promise<WorkResult> {
    return download(this.#settings, target.storePath, { caches, apiKey: this.#apiKey, signal: this.#signal });
  }

  async pin({ profilePath, runningPath }: SystemView): Promise<void> {
    const path = profilePath ?? runningPath;
    if (path === null) return;
    try {
      const words = [
        "--realise",
        path,
        "--max-jobs",
        "0",
        "--add-root",
        rootPlace(this.#settings, "before"),
        "--indirect",
      ];
      await runCommand(this.#settings.commands.nixStore, words, { timeoutMs: COMMAND_TIMEOUT_MS });
    } catch {
      // Its generation keeps it as well, so that it does no harm where this does not work.
    }
  }

  async setProfile(systemPath: string, generation: number | null): Promise<WorkResult> {
    const { profile, commands } = this.#settings;
    if (linkTarget(profile) === systemPath) return { ok: true };
    const words =
      generation !== null && generations(profile).get(generation) === systemPath
        ? ["--switch-generation", String(generation)]
        : ["--set", systemPath];
    const result = await runCommand(commands.nixEnv, ["--profile", profile, ...words], {
      timeoutMs: PROFILE_TIMEOUT_MS,
    });
    const is = linkTarget(profile);
    if (is === systemPath) return { ok: true };
    const said = result.trouble ?? (lastWords(result.stderr) || `nix-env ended with ${result.code}`);
    const reason = `the profile ${profile} could not be set to ${systemPath}: ${said}`;
    return { ok: false, end: "profile-failed", reason };
  }

  outcomeOf(token: string): Promise<WorkResult | null> {
    return this.#switcher.outcomeOf(token);
  }

  switchTo(step: SwitchStep, token: string, onUnderWay?: () => void): Promise<WorkResult> {
    return this.#switcher.run(step, token, onUnderWay);
  }

  async failedCommands(): Promise<readonly string[]> {
    const problems: string[] = [];
    for (const text of this.#settings.healthCommands) {
      const { code, trouble, stderr } = await this.#shell(text, this.#settings.healthCommandTimeoutSeconds * SECOND);
      if (code === 0) continue;
      const words = lastWords(stderr, 300);
      problems.push(`\`${text.slice(0, 200)}\` ${trouble ?? `ended with ${code}`}${words && `: ${words}`}`);
    }
    return problems;
  }

  async busyReason(purpose: "switch" | "reboot"): Promise<string | null> {
    const { busyCommand, waitForInhibitors } = this.#settings;
    if (busyCommand !== null) {
      const { code, trouble } = await this.#shell(busyCommand, COMMAND_TIMEOUT_MS);
      const shown = `\`${busyCommand.slice(0, 200)}\``;
      if (code === 0) return `the host is busy, says ${shown}`;
      if (code === null) return `nobody knows whether the host is busy: ${shown} ${trouble}`;
    }
    if (purpose === "switch" && !waitForInhibitors) return null;
    const { code, trouble, stdout, stderr } = await runCommand(
      this.#settings.commands.systemdInhibit,
      ["--list", "--no-legend", "--no-pager"],
      { timeoutMs: COMMAND_TIMEOUT_MS },
    );
    if (code !== 0) {
      const words = trouble ?? (lastWords(stderr) || `it ended with ${code}`);
      return `nobody knows whether a shutdown is inhibited: systemd-inhibit: ${words}`;
    }
    const [holder] = parseInhibitors(stdout);
    return holder === undefined ? null : `a shutdown is inhibited: ${holder}`;
  }

  needsBootFirst(systemPath: string): boolean {
    const { storeRoot, currentSystem } = this.#settings;
    const running = linkTarget(currentSystem);
    if (running === null) return false;
    const [old, next] = [running, systemPath].map((system) => readJson(`${storeRoot}${system}/switch-inhibitors`));
    return Object.entries(old ?? {}).some(([key, value]) => next?.[key] !== undefined && next[key] !== value);
  }

  needsReboot(): boolean {
    const { profile, bootedSystem, storeRoot } = this.#settings;
    const next = linkTarget(profile);
    const booted = linkTarget(bootedSystem);
    if (next === null || booted === null) return false;
    return BOOT_LINKS.some((name) => {
      const [a, b] = [next, booted].map((system) => bootLink(`${storeRoot}${system}/${name}`));
      return a !== b;
    });
  }

  async reboot(): Promise<string | null> {
    const { code, trouble, stderr } = await runCommand(this.#settings.commands.systemctl, ["reboot"], {
      timeoutMs: COMMAND_TIMEOUT_MS,
    });
    return code === 0 ? null : (trouble ?? (lastWords(stderr) || `systemctl ended with ${code}`));
  }

  generationBefore(): { readonly number: number; readonly systemPath: string } | null {
    const { generation } = this.view();
    if (generation === null) return null;
    const [last] = [...generations(this.#settings.profile)]
      .filter(([number]) => number < generation)
      .sort((a, b) => b[0] - a[0]);
    return last ? { number: last[0], systemPath: last[1] } : null;
  }

  #shell(text: string, timeoutMs: number) {
    return runCommand(this.#settings.commands.shell, ["-c", text], { timeoutMs, signal: this.#signal });
  }
}

function linkText(path: string): string | null {
  try {
    return basename(readlinkSync(path));
  } catch {
    return null;
  }
}

/** The object of a file of NixOS; null where there is none. */
function readJson(path: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(readFileSync(path, "utf8"));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** Where a link in a system leads; null where there is none, as in a container. */
function bootLink(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}
