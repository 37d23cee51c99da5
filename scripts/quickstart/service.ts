import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { lastLines } from "./commands.ts";
import { QuickstartError } from "./problem.ts";

export interface ServiceOptions {
  /** For people: "the server". */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** The whole environment. */
  readonly environment: Readonly<Record<string, string>>;
  readonly folder: string;
  /** Its words; begun anew at each start. */
  readonly logPath: string;
  /** What it gets from the kernel should this process be killed. */
  readonly deathSignal: "TERM" | "KILL";
  /** After this long it is asked again, and after twice as long killed. */
  readonly stopMs: number;
}

const POLL_MS = 50;
const LOG_LINES = 15;

/** A process beside ours, in a session of its own: a terminal's Ctrl-C reaches us alone, and we stop it in order. */
export class Service implements AsyncDisposable {
  readonly name: string;
  readonly logPath: string;
  /** Resolves with how it ended. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #stopMs: number;
  #end: string | null = null;

  static start(options: ServiceOptions): Service {
    return new Service(options);
  }

  private constructor(options: ServiceOptions) {
    this.name = options.name;
    this.logPath = options.logPath;
    this.#stopMs = options.stopMs;
    const log = openSync(options.logPath, "w", 0o600);
    const [command, ...args] = withDeathSignal(options);
    this.#child = spawn(command as string, args, {
      cwd: options.folder,
      env: { ...options.environment },
      stdio: ["ignore", log, log],
      detached: true,
    });
    closeSync(log);
    this.ended = new Promise((resolve) => {
      const finish = (how: string) => {
        this.#end ??= how;
        resolve(this.#end);
      };
      this.#child.once("error", (error) => finish(`did not start: ${error.message}`));
      this.#child.once("exit", (code, signal) =>
        finish(signal ? `was ended by ${signal}` : `ended with exit code ${code}`),
      );
    });
  }

  /** Waits until `ready` answers something. Throws `QuickstartError`, with its last words, when it ends before that. */
  async waitFor<T>(ready: () => Promise<T | null>, timeoutMs: number, signal: AbortSignal): Promise<T> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      signal.throwIfAborted();
      const answer = await ready();
      if (answer !== null) return answer;
      if (this.#end !== null) throw await this.failure(this.#end);
      if (performance.now() > deadline) throw await this.failure(`was not ready within ${timeoutMs / 1_000} s`);
      await sleep(POLL_MS, undefined, { signal });
    }
  }

  async failure(what: string): Promise<QuickstartError> {
    const lines = lastLines(await readFile(this.logPath, "utf8").catch(() => ""), LOG_LINES).map(readable);
    const words = lines.map((line) => `\n  ${line}`).join("");
    return new QuickstartError(`${this.name} ${what}${words ? `; its last words (${this.logPath}):${words}` : ""}`);
  }

  async stop(): Promise<void> {
    const { pid } = this.#child;
    if (pid === undefined || this.#end !== null) return;
    const below = await descendants(pid);
    for (const signal of ["SIGTERM", "SIGTERM", "SIGKILL"] as const) {
      if (signal === "SIGKILL") for (const child of await descendants(pid)) below.push(child);
      this.#child.kill(signal);
      if (await this.#endsWithin(this.#stopMs)) break;
    }
    for (const child of below) kill(child.pid, child.startTime, await startTimeOf(child.pid));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #endsWithin(ms: number): Promise<boolean> {
    const timer = new AbortController();
    const late = sleep(ms, "late", { signal: timer.signal }).catch(() => "late");
    const first = await Promise.race([this.ended.then(() => "ended"), late]);
    timer.abort();
    return first === "ended";
  }
}

/** setpriv keeps the process id: it becomes the program. */
function withDeathSignal({ command, args, deathSignal }: ServiceOptions): readonly string[] {
  const probe = spawnSync("setpriv", ["--pdeathsig", deathSignal, "--", "true"], { stdio: "ignore" });
  const prefix = probe.status === 0 ? ["setpriv", "--pdeathsig", deathSignal, "--"] : [];
  return [...prefix, command, ...args];
}

/** A line of a JSON log as words. */
function readable(line: string): string {
  try {
    const { level, message, error, reason } = JSON.parse(line) as Record<string, unknown>;
    if (typeof message !== "string") return line;
    const detail = (error as { message?: string } | undefined)?.message ?? reason;
    return `${level}: ${message}${detail === undefined ? "" : ` (${String(detail)})`}`;
  } catch {
    return line;
  }
}

interface ProcessIdentity {
  readonly pid: number;
  /** An id that is used again belongs to a process with another start. */
  readonly startTime: string;
}

/** proc(5): the fields after the command (which may hold spaces and parentheses): state, parent, and 20th the start. */
async function statOf(pid: number): Promise<readonly string[]> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return text.slice(text.lastIndexOf(")") + 2).split(" ");
}

async function startTimeOf(pid: number): Promise<string> {
  return (await statOf(pid))[19] ?? "";
}

async function descendants(root: number): Promise<ProcessIdentity[]> {
  const children = new Map<number, ProcessIdentity[]>();
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const [, parent, ...rest] = await statOf(Number(name));
    const found = { pid: Number(name), startTime: rest[17] ?? "" };
    children.set(Number(parent), [...(children.get(Number(parent)) ?? []), found]);
  }
  const below = [...(children.get(root) ?? [])];
  for (const { pid } of below) below.push(...(children.get(pid) ?? []));
  return below;
}

function kill(pid: number, startedThen: string, startedNow: string): void {
  if (startedNow === "" || startedNow !== startedThen) return;
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended by itself.
  }
}
