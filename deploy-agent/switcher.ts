import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Clock, SECOND, sleep } from "#core/lib/clock.ts";
import { endGroupOf, isGroupThere, lastWords, runCommand } from "./commands.ts";
import type { SwitchStep, WorkResult } from "./machine.ts";
import type { DeploySettings, Environment } from "./read-settings.ts";

type Settings = Pick<DeploySettings, "stateDir" | "storeRoot" | "switchTimeoutSeconds" | "healthUnits" | "commands">;

export interface SwitcherOptions {
  readonly settings: Settings;
  readonly hasSystemd: boolean;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly environment: Environment;
}

type Variables = Readonly<Record<string, string>>;

/** unknown: nobody could say, which is not the same as gone. */
type Presence = "running" | "gone" | "unknown";

/**
 * Runs the script and writes its exit code into a file in one go, so that also a later agent knows how it ended. Only
 * built-in commands of the shell: the unit that this may run in has no PATH to speak of.
 */
const RUNNER = `"$2" "$3"; code=$?; printf '%s\\n' "$code" >"$1"; exit "$code"`;

/** switch-to-configuration: another one is at work. */
const LOCKED = /could not acquire lock/i;
const AGAIN_PAUSE_MS = SECOND;
/** So often is a script started that does not begin to run, as where systemd is busy with something else. */
const STARTS_MAX = 10;

const POLL_MS = 10;
const UNIT_POLL_MS = 2 * SECOND;
/** Who finds another switch at work ends sooner than that. */
const UNDER_WAY_MS = 2 * SECOND;
const STOP_AFTER_MS = 5 * SECOND;
const COMMAND_TIMEOUT_MS = 30 * SECOND;

/** switch-to-configuration: some units could not be started. */
const UNITS_FAILED = 4;
/** switch-to-configuration: the new init cannot take over before a boot. */
const NEEDS_BOOT = 100;

/**
 * Calls `switch-to-configuration` so that it outlives this agent: in a unit of its own where systemd runs the host,
 * else in a session of its own. Its exit code and its words are in files named by the token.
 */
export class Switcher {
  readonly #options: SwitcherOptions;
  readonly #folder: string;

  constructor(options: SwitcherOptions) {
    this.#options = options;
    this.#folder = join(options.settings.stateDir, "switch");
  }

  /**
   * `onUnderWay` is called when the script has been running for a moment, where it runs for so long. What never began
   * to switch ends as `busy`: that says nothing of the system.
   */
  async run(step: SwitchStep, token: string, onUnderWay: () => void = () => {}): Promise<WorkResult> {
    const { clock, settings, signal } = this.#options;
    const until = clock.monotonic() + settings.switchTimeoutSeconds * SECOND;
    for (let starts = 1; ; starts++) {
      this.#forgetOthers(token);
      const trouble = await this.#start(step, token);
      // What could not be started may run all the same: a call that took too long, say.
      if (trouble === null || (await this.#isKnown(token, until))) {
        const result = await this.#wait(step.action, token, onUnderWay);
        // Somebody else is switching.
        const isLocked = !result.ok && LOCKED.test(this.#words(token));
        if (!isLocked || signal.aborted) return result;
        if (clock.monotonic() >= until) return notBegun(`somebody else is switching${this.#words(token)}`);
      } else if (signal.aborted || starts >= STARTS_MAX || clock.monotonic() >= until) {
        return notBegun(`switch-to-configuration could not be started: ${trouble}`);
      }
      await sleep(clock, AGAIN_PAUSE_MS, signal);
    }
  }

  /** Null: not started, or nobody knows how it ended. */
  async outcomeOf(token: string): Promise<WorkResult | null> {
    const { clock, settings } = this.#options;
    if (!(await this.#isKnown(token, clock.monotonic() + settings.switchTimeoutSeconds * SECOND))) return null;
    const result = await this.#wait("switch", token);
    return !result.ok && LOCKED.test(this.#words(token)) ? null : result;
  }

  /** Whether it runs or has ended in a way that is known. Waits as long as nobody can say, and stops it then. */
  async #isKnown(token: string, until: number): Promise<boolean> {
    const { clock, signal } = this.#options;
    for (;;) {
      const presence = await this.#presence(token);
      if (presence === "running" || this.#exitCode(token) !== null) return true;
      if (presence === "gone" || signal.aborted) return false;
      if (clock.monotonic() >= until) {
        await this.#stop(token);
        return this.#exitCode(token) !== null;
      }
      await sleep(clock, AGAIN_PAUSE_MS, signal);
    }
  }

  async #start({ systemPath, action, isRestore }: SwitchStep, token: string): Promise<string | null> {
    const { settings, hasSystemd } = this.#options;
    const script = `${settings.storeRoot}${systemPath}/bin/switch-to-configuration`;
    const words = [settings.commands.shell, "-c", RUNNER, "sh", this.#file(token, "result"), script, action];
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    const variables = isRestore ? { NIXOS_NO_CHECK: "1" } : {};
    return hasSystemd ? this.#startUnit(words, token, variables) : this.#startSession(words, token, variables);
  }

  async #startUnit(words: readonly string[], token: string, variables: Variables): Promise<string | null> {
    const { settings } = this.#options;
    const log = this.#file(token, "log");
    const result = await runCommand(
      settings.commands.systemdRun,
      [
        `--unit=${unitName(token)}`,
        "--description=Switches to what Gradient built",
        "--collect",
        "--quiet",
        "--no-ask-password",
        "--service-type=exec",
        `--property=RuntimeMaxSec=${settings.switchTimeoutSeconds}`,
        `--property=StandardOutput=file:${log}`,
        `--property=StandardError=file:${log}`,
        "--setenv=LOCALE_ARCHIVE",
        "--setenv=NIXOS_INSTALL_BOOTLOADER",
        ...Object.entries(variables).map(([name, value]) => `--setenv=${name}=${value}`),
        "--",
        ...words,
      ],
      { timeoutMs: COMMAND_TIMEOUT_MS },
    );
    return result.code === 0
      ? null
      : (result.trouble ?? lastWords(result.stderr)) || `systemd-run ended with ${result.code}`;
  }

  #startSession(words: readonly string[], token: string, variables: Variables): Promise<string | null> {
    const [command = "", ...args] = words;
    const { promise, resolve } = Promise.withResolvers<string | null>();
    const log = openSync(this.#file(token, "log"), "w", 0o600);
    const env = { ...this.#options.environment, ...variables } as NodeJS.ProcessEnv;
    const child = spawn(command, args, { stdio: ["ignore", log, log], detached: true, cwd: "/", env });
    closeSync(log);
    child.unref();
    child.once("spawn", () => resolve(null));
    child.once("error", (error) => resolve(error.message));
    return promise;
  }

  /** Until it has ended, the time is over, or the agent is asked to end. */
  async #wait(action: string, token: string, onUnderWay: () => void = () => {}): Promise<WorkResult> {
    const { clock, settings, signal, hasSystemd } = this.#options;
    const until = clock.monotonic() + settings.switchTimeoutSeconds * SECOND;
    const underWayAt = clock.monotonic() + UNDER_WAY_MS;
    let isTold = false;
    let nextLook = clock.monotonic() + (hasSystemd ? UNIT_POLL_MS : POLL_MS);
    for (;;) {
      const code = this.#exitCode(token);
      if (code !== null) return this.#judge(action, code, token);
      if (signal.aborted) return failure("the agent was asked to end; the switch goes on without it");
      if (clock.monotonic() >= until) {
        await this.#stop(token);
        return failure(`switch-to-configuration took longer than ${settings.switchTimeoutSeconds} s and was ended`);
      }
      if (clock.monotonic() >= nextLook) {
        nextLook = clock.monotonic() + (hasSystemd ? UNIT_POLL_MS : 50 * POLL_MS);
        // Where nobody can say whether it runs it is waited for: a switch may restart what would answer.
        if ((await this.#presence(token)) === "gone" && this.#exitCode(token) === null) {
          return failure(`switch-to-configuration was ended from outside${this.#words(token)}`);
        }
      }
      if (!isTold && clock.monotonic() >= underWayAt) {
        isTold = true;
        onUnderWay();
      }
      await sleep(clock, POLL_MS, signal);
    }
  }

  #judge(action: string, code: number, token: string): WorkResult {
    if (code === 0) return { ok: true };
    // Which units count is for the health check to say: some may have failed before, too.
    const unitsAreChecked = this.#options.hasSystemd && this.#options.settings.healthUnits;
    if (code === UNITS_FAILED && unitsAreChecked && action !== "dry-activate") return { ok: true };
    if (code === NEEDS_BOOT && (action === "switch" || action === "test")) return { ok: true, needsBoot: true };
    return failure(`switch-to-configuration ${action} ended with ${code}${this.#words(token)}`);
  }

  async #presence(token: string): Promise<Presence> {
    const { settings, hasSystemd } = this.#options;
    if (!hasSystemd) return this.#processes(token).length > 0 ? "running" : "gone";
    const { code, stdout } = await runCommand(
      settings.commands.systemctl,
      ["show", "--property=ActiveState", "--value", unitName(token)],
      { timeoutMs: COMMAND_TIMEOUT_MS },
    );
    const activeState = stdout.trim();
    if (code !== 0 || activeState === "") return "unknown";
    return activeState === "inactive" || activeState === "failed" ? "gone" : "running";
  }

  async #stop(token: string): Promise<void> {
    const { settings, hasSystemd, clock } = this.#options;
    if (hasSystemd) {
      await runCommand(settings.commands.systemctl, ["kill", "--signal=SIGKILL", unitName(token)], {
        timeoutMs: COMMAND_TIMEOUT_MS,
      });
      return;
    }
    const groups = this.#processes(token);
    for (const group of groups) endGroupOf(group, "SIGTERM");
    const until = clock.monotonic() + STOP_AFTER_MS;
    while (groups.some(isGroupThere) && clock.monotonic() < until) await sleep(clock, POLL_MS);
    // The script may outlive the shell around it.
    for (const group of groups) endGroupOf(group, "SIGKILL");
  }

  /** The shell around the script has the token on its command line, whoever started it and when. */
  #processes(token: string): number[] {
    const wanted = this.#file(token, "result");
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => {
        try {
          const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
          return words[1] === "-c" && words[4] === wanted;
        } catch {
          return false;
        }
      });
  }

  /** Null: not ended, or the power went before the file was on the disk. */
  #exitCode(token: string): number | null {
    try {
      const text = readFileSync(this.#file(token, "result"), "utf8");
      return /^\d{1,3}\n$/.test(text) ? Number(text) : null;
    } catch {
      return null;
    }
  }

  #words(token: string): string {
    try {
      const words = lastWords(readFileSync(this.#file(token, "log"), "utf8").slice(-4_096), 1_000);
      return words && `: ${words}`;
    } catch {
      return "";
    }
  }

  #file(token: string, kind: "log" | "result"): string {
    return join(this.#folder, `${token}.${kind}`);
  }

  /** Only the files of the latest deployment are kept. */
  #forgetOthers(token: string): void {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    const stale = readdirSync(this.#folder)
      .filter((name) => /^[0-9a-f-]+\.(?:log|result)$/.test(name) && !name.startsWith(token))
      .sort();
    for (const name of stale.slice(0, -8)) rmSync(join(this.#folder, name), { force: true });
    for (const kind of ["log", "result"] as const) rmSync(this.#file(token, kind), { force: true });
  }
}

export function unitName(token: string): string {
  return `gradient-deploy-switch-${token}.service`;
}

/** Nothing of the host was touched. */
function notBegun(reason: string): WorkResult {
  return { ok: false, end: "busy", reason };
}

function failure(reason: string): WorkResult {
  return { ok: false, end: "rolled-back", reason };
}
