import type { Wanted, WantedBuild, WantedCache } from "./decide.ts";
import type { End } from "./ends.ts";
import type { SwitchStep, WorkResult } from "./machine.ts";
import type { AgentState, SystemView } from "./state.ts";

/** The host as the agent sees and changes it. Nothing throws for what can go wrong on a host, but for the signal. */
export interface Host {
  view(): SystemView;
  /** Changes with every boot; null: not known. */
  bootId(): string | null;
  /** Units that failed or are restarted again and again; null: not known. */
  failedUnits(): Promise<readonly string[] | null>;
  /** Fetches the closure, never builds, and keeps it from garbage collection. */
  download(target: Pick<WantedBuild, "storePath">, caches: readonly WantedCache[]): Promise<WorkResult>;
  /** Keeps the system that a rollback needs from garbage collection. */
  pin(view: SystemView): Promise<void>;
  /** The profile shows the path afterwards; as the generation of that number where that one still is the path. */
  setProfile(systemPath: string, generation: number | null): Promise<WorkResult>;
  /**
   * What became of a step that was started under this token: waits while it still runs. Null: it never ran, or nobody
   * knows how it ended.
   */
  outcomeOf(token: string): Promise<WorkResult | null>;
  /**
   * Starts the step, which outlives the agent, and waits for it within the time limit. `onUnderWay` is called once it
   * has been running for a moment. What never began to switch ends as `busy`.
   */
  switchTo(step: SwitchStep, token: string, onUnderWay?: () => void): Promise<WorkResult>;
  /** One sentence for each of the operator's commands that does not end with 0. */
  failedCommands(): Promise<readonly string[]>;
  /** Why nothing should be switched or rebooted now; null: nothing speaks against it. */
  busyReason(purpose: "switch" | "reboot"): Promise<string | null>;
  /** Whether NixOS would refuse to switch to the system while this one runs, for parts that change only by a boot. */
  needsBootFirst(systemPath: string): boolean;
  /** Whether the profile's kernel, initrd or modules are other ones than those that were booted. */
  needsReboot(): boolean;
  /** Null: the host was told to. */
  reboot(): Promise<string | null>;
  /** The generation before the profile's present one; null: there is none. */
  generationBefore(): { readonly number: number; readonly systemPath: string } | null;
}

/** A request to the server that led to nothing, as the end of a run. */
export class ServerError extends Error {
  override readonly name = "ServerError";
  readonly end: End;
  /** Of the answer; null: there was none. */
  readonly status: number | null;

  constructor(end: End, message: string, status: number | null, options?: ErrorOptions) {
    super(message, options);
    this.end = end;
    this.status = status;
  }
}

export interface Seen {
  readonly buildId: string | null;
  readonly state: string;
}

/** The server. Every failure is a `ServerError`. */
export interface Server {
  wanted(news?: { readonly seen: Seen; readonly waitSeconds: number; readonly signal?: AbortSignal }): Promise<Wanted>;
  report(body: Readonly<Record<string, unknown>>): Promise<void>;
  /** Resolves when the server answers at all. */
  reach(): Promise<void>;
}

/** What the agent remembers. `write` returns when it would survive a loss of power. */
export interface Memory {
  read(): AgentState;
  write(state: AgentState): void;
}

/** What people read while the agent works. */
export interface Narrator {
  info(message: string): void;
  warn(message: string): void;
}
