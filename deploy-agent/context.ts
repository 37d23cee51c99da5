import type { Clock } from "#core/lib/clock.ts";
import type { RandomBytes } from "#core/lib/ids.ts";
import type { Host, Memory, Narrator, Server } from "./ports.ts";
import type { DeploySettings } from "./read-settings.ts";
import type { AgentState } from "./state.ts";

/** The settings that decisions of a run hang on. */
export type RunSettings = Pick<
  DeploySettings,
  | "mode"
  | "rollback"
  | "report"
  | "reboot"
  | "rebootWindow"
  | "waitSeconds"
  | "healthUnits"
  | "healthIgnoredUnits"
  | "healthServer"
  | "healthSettleSeconds"
  | "healthGraceSeconds"
>;

/** What every part of a run needs. */
export interface Context {
  readonly settings: RunSettings;
  readonly host: Host;
  readonly server: Server;
  readonly keeper: StateKeeper;
  readonly narrator: Narrator;
  readonly clock: Clock;
  readonly random: RandomBytes;
  /** Aborted when the agent was asked to end. What runs on the host then goes on without it. */
  readonly signal: AbortSignal;
}

/** The agent was asked to end; what it has written down is true. */
export class InterruptedError extends Error {
  override readonly name = "InterruptedError";
}

/** What is remembered, and each change of it that matters written down before anything else happens. */
export class StateKeeper {
  readonly #memory: Memory;
  #state: AgentState;

  constructor(memory: Memory, change: (state: AgentState) => AgentState) {
    this.#memory = memory;
    this.#state = change(memory.read());
  }

  get state(): AgentState {
    return this.#state;
  }

  /** Returns when the new state would survive a loss of power. */
  update(change: (state: AgentState) => AgentState): AgentState {
    const next = change(this.#state);
    this.#memory.write(next);
    this.#state = next;
    return next;
  }

  /** Written down with the next `update`. Only for what does no harm when it is forgotten. */
  updateLater(change: (state: AgentState) => AgentState): void {
    this.#state = change(this.#state);
  }
}

export function timeText(clock: Clock): string {
  return new Date(clock.now()).toISOString();
}
