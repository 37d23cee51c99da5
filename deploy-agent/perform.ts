import { hostname } from "node:os";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom } from "#core/lib/ids.ts";
import { readApiKey } from "./api-key.ts";
import type { Arguments } from "./arguments.ts";
import { extraCertificates } from "./certificates.ts";
import { type Context, InterruptedError, StateKeeper } from "./context.ts";
import { ENDS, type End } from "./ends.ts";
import { takeLock } from "./lock.ts";
import { LineNarrator } from "./narrator.ts";
import { NodeHost } from "./node-host.ts";
import { type DeploySettings, type Environment, readSettings, SettingsError, serverTrouble } from "./read-settings.ts";
import { type RunEnd, runOnce, runResume } from "./run.ts";
import { ServerLink } from "./server-link.ts";
import { forSource, sourceOf } from "./state.ts";
import { prepareFolder, StateError, StateFile } from "./state-file.ts";
import { statusOf, statusText } from "./status.ts";
import { runUndo } from "./undo.ts";
import { watch } from "./watch.ts";

export interface Surroundings {
  readonly environment: Environment;
  readonly signal: AbortSignal;
  readonly out: (text: string) => void;
  readonly say: (text: string) => void;
}

/** Does what the command line says and answers with the exit code. */
export async function perform(given: Arguments, { environment, signal, out, say }: Surroundings): Promise<number> {
  const asJson = given.switches.has("--json");
  const narrator = new LineNarrator({ asJson, write: quietly(say) });
  const print = quietly(out);
  try {
    const { settings, warnings } = readSettings(environment, { flags: given.flags, machineName: shortHostName() });
    for (const warning of warnings) narrator.warn(warning);
    const trouble = serverTrouble(settings);
    if (given.command === "read-settings" && trouble) throw new SettingsError([trouble]);
    if (given.command === "read-settings") return printEnd(print, asJson, ending("shown", "the settings are good"));
    const agent = new AgentProcess(settings, { environment, signal, narrator });
    if (given.command === "status") {
      const status = statusOf(agent.context());
      print(asJson ? `${JSON.stringify(status)}\n` : statusText(status));
      return ENDS.shown.exitCode;
    }
    return printEnd(print, asJson, await agent.run(given), agent);
  } catch (error) {
    const end = endOfError(error);
    if (end === "internal" && error instanceof Error) narrator.warn(error.stack ?? error.message);
    return printEnd(print, asJson, ending(end, error instanceof Error ? error.message : String(error)));
  }
}

/** A pipe that nobody reads any more must not stop a deployment. */
function quietly(write: (text: string) => void): (text: string) => void {
  return (text) => {
    try {
      write(text);
    } catch {
      // There is nobody left to tell.
    }
  };
}

function shortHostName(): string {
  return hostname().split(".")[0] ?? "";
}

function ending(end: End, reason: string): RunEnd {
  return { end, reason, failedUnits: [], wanted: null };
}

function endOfError(error: unknown): End {
  if (error instanceof SettingsError) return "settings";
  if (error instanceof StateError) return "state";
  if (error instanceof InterruptedError) return "interrupted";
  return "internal";
}

/** This process with one set of settings. */
class AgentProcess {
  readonly #settings: DeploySettings;
  readonly #surroundings: Pick<Surroundings, "environment" | "signal"> & { readonly narrator: LineNarrator };
  #apiKey: string | null = null;

  constructor(
    settings: DeploySettings,
    surroundings: Pick<Surroundings, "environment" | "signal"> & { readonly narrator: LineNarrator },
  ) {
    this.#settings = settings;
    this.#surroundings = surroundings;
  }

  async run({ command, switches }: Arguments): Promise<RunEnd> {
    const wishes = { force: switches.has("--force"), allowOlder: switches.has("--allow-older") };
    const locked = ending("locked", `another run is at work (${this.#settings.stateDir}/lock)`);
    prepareFolder(this.#settings.stateDir);
    const work = (context: Context): Promise<RunEnd> => {
      if (command === "resume") return runResume(context);
      return command === "rollback" ? runUndo(context) : runOnce(context, wishes);
    };
    if (command !== "watch") return (await this.#withLock(work)) ?? locked;
    const { server, clock, random, narrator, signal } = this.context();
    const withContext = (action: (context: Context) => Promise<RunEnd>) => this.#withLock(action);
    const waitSeconds = this.#settings.watchWaitSeconds;
    return watch({ server, clock, random, narrator, signal, wishes, waitSeconds, withContext });
  }

  describe(): Readonly<Record<string, unknown>> {
    const { host, keeper } = this.context();
    const view = host.view();
    return {
      running_path: view.runningPath,
      booted_path: view.bootedPath,
      profile_path: view.profilePath,
      generation: view.generation,
      reboot_needed: statusOf({ host, keeper }).next_boot_path !== null || host.needsReboot(),
      unsent_reports: keeper.state.reports.length,
    };
  }

  async #withLock(work: (context: Context) => Promise<RunEnd>): Promise<RunEnd | null> {
    using lock = takeLock(this.#settings.stateDir);
    // Awaited here: the lock ends with this block.
    return lock && (await work(this.context()));
  }

  /** Reads neither the key nor certificates: what was left is put right, and the status shown, without them. */
  context(): Context {
    const settings = this.#settings;
    const { environment, signal, narrator } = this.#surroundings;
    const { project, host } = settings;
    const source = sourceOf(project, host);
    const apiKey = (): string => this.#readKey();
    const certificates = (): readonly string[] | null => extraCertificates(settings);
    const memory = new StateFile(settings.stateDir, (message) => narrator.warn(message));
    return {
      settings,
      host: new NodeHost(settings, { apiKey, clock: systemClock, signal, environment }),
      server: new ServerLink(settings, { apiKey, environment, certificates }),
      keeper: new StateKeeper(memory, (state) => forSource(state, source)),
      narrator,
      clock: systemClock,
      random: systemRandom,
      signal,
    };
  }

  /** Once; a process that runs on keeps the key that it had. */
  #readKey(): string {
    if (this.#apiKey !== null) return this.#apiKey;
    const { apiKey, warnings } = readApiKey(this.#settings.apiKeyFile);
    for (const warning of warnings) this.#surroundings.narrator.warn(warning);
    this.#apiKey = apiKey;
    return apiKey;
  }
}

function printEnd(
  print: (text: string) => void,
  asJson: boolean,
  { end, reason, failedUnits, wanted }: RunEnd,
  agent: AgentProcess | null = null,
): number {
  const { exitCode, description } = ENDS[end];
  if (!asJson) {
    print(`${end}: ${reason ?? description}\n`);
    return exitCode;
  }
  const build = wanted?.build ?? null;
  const wantedJson = build && {
    store_path: build.storePath,
    build_id: build.buildId,
    evaluation_id: build.evaluationId,
    order: build.order,
    commit: build.commit,
  };
  const whole = { end, exit_code: exitCode, description, reason, failed_units: failedUnits, wanted: wantedJson };
  print(`${JSON.stringify({ ...whole, ...agent?.describe() })}\n`);
  return exitCode;
}
