import type { End } from "./ends.ts";
import type { Mode } from "./settings.ts";

/** A build for this host, as the server named it. */
export interface Target {
  readonly storePath: string;
  readonly buildId: string;
  readonly evaluationId: string;
  /** Of the evaluations of one project: an older one has a smaller number. */
  readonly order: number;
  readonly commit: string;
}

/** What the links of the host say. Null: there is no such link. */
export interface SystemView {
  readonly profilePath: string | null;
  readonly generation: number | null;
  readonly runningPath: string | null;
  readonly bootedPath: string | null;
}

/**
 * Where a deployment stands. The phase is written down before its work begins, so that after a loss of power the next
 * run knows what may have happened:
 *
 *     downloading -> profile -> switching -> checking -> (done)
 *                       |           |           |
 *                       +-----------+-----------+-> restoring-profile -> restoring-system -> (done)
 *
 * Nothing of the host is changed before `profile`. Each phase can be done again from its beginning.
 */
export const PHASES = [
  "downloading",
  "profile",
  "switching",
  "checking",
  "restoring-profile",
  "restoring-system",
] as const;
export type Phase = (typeof PHASES)[number];

/** deploy: the server's wish. boot-check: what was booted. undo: the operator's wish to go back. */
export const GOALS = ["deploy", "boot-check", "undo"] as const;
export type Goal = (typeof GOALS)[number];

/** Why a deployment is undone, and how the run ends when that works. */
export interface Cause {
  readonly end: End;
  readonly reason: string;
  readonly failedUnits: readonly string[];
}

/** A deployment that has begun and not ended. */
export interface Journal {
  readonly runId: string;
  /** Of the next report. */
  readonly sequence: number;
  readonly goal: Goal;
  readonly mode: Mode;
  readonly phase: Phase;
  readonly target: Target;
  /** The host before anything was changed: what a rollback restores. */
  readonly before: SystemView;
  /** Null: not known. */
  readonly failedUnitsBefore: readonly string[] | null;
  /** How often the work of this phase was begun. */
  readonly attempts: number;
  /** Names the outcome of the last `switch-to-configuration` that was started, for a run that comes later. */
  readonly switchToken: string | null;
  /** Null: nothing is being undone. */
  readonly cause: Cause | null;
  readonly profileRestored: boolean;
  /** The way back was gone to its end once at least, and the host is not as it was. */
  readonly rollbackFailed: boolean;
  /** What could not be undone so far, while this deployment has not begun to switch: it comes back if this one ends. */
  readonly unfinished: Journal | null;
  readonly startedAt: string;
}

export interface BadBuild {
  readonly storePath: string;
  readonly buildId: string;
  readonly reason: string;
  readonly at: string;
  /** The server knows it: when it offers the build again, somebody has released it. */
  readonly isConfirmed: boolean;
}

/** A system that the profile has and that takes effect at the next boot. */
export interface PendingBoot {
  readonly target: Target;
  readonly before: SystemView;
  readonly mode: Mode;
  /** Of the boot in which it was set up. */
  readonly bootId: string;
  readonly failedUnitsBefore: readonly string[] | null;
}

/** A report that the server has not confirmed, as the body of its request. */
export interface QueuedReport {
  readonly body: Readonly<Record<string, unknown>>;
  /** The last word of a run is kept when there are too many. */
  readonly isLast: boolean;
}

export interface LastRun {
  readonly end: End;
  readonly exitCode: number;
  readonly reason: string | null;
  readonly finishedAt: string;
}

/** All that the agent remembers, in one file, so that it changes as a whole. */
export interface AgentState {
  readonly version: 1;
  /** Project and host that the rest is about, as `sourceOf` has them. */
  readonly source: string;
  readonly journal: Journal | null;
  /** Of the newest build that was deployed; what is below it is older. */
  readonly order: number | null;
  readonly deployed: Target | null;
  /** Units that had failed before `deployed` came; null: not known. */
  readonly deployedFailedUnits: readonly string[] | null;
  /** The system before `deployed`. */
  readonly before: SystemView | null;
  readonly pendingBoot: PendingBoot | null;
  /** The server's last word on what the next boot leads to was not to deploy it. */
  readonly isNextBootHeld: boolean;
  readonly bad: readonly BadBuild[];
  readonly reports: readonly QueuedReport[];
  /** That this key may not report was said already. */
  readonly toldNoPermission: boolean;
  readonly lastRun: LastRun | null;
}

/** The part that outlives the damage of the rest. */
export type Refusals = Pick<AgentState, "version" | "source" | "order" | "bad">;

export function refusalsOf({ version, source, order, bad }: AgentState): Refusals {
  return { version, source, order, bad };
}

export const BAD_BUILDS_MAX = 100;

export function emptyState(source: string): AgentState {
  return {
    version: 1,
    source,
    journal: null,
    order: null,
    deployed: null,
    deployedFailedUnits: null,
    before: null,
    pendingBoot: null,
    isNextBootHeld: false,
    bad: [],
    reports: [],
    toldNoPermission: false,
    lastRun: null,
  };
}

/** Without the server's address: it may be spelled in several ways, and change, while its builds stay what they are. */
export function sourceOf(
  { organization, name }: { readonly organization: string; readonly name: string },
  host: string,
): string {
  return `${organization}/${name} ${host}`;
}

/** Another project has other numbers, and its builds say nothing about these. What is half done stays to be ended. */
export function forSource(state: AgentState, source: string): AgentState {
  // The first agents wrote the address before it.
  if (state.source === source || state.source.endsWith(` ${source}`)) return { ...state, source };
  const { journal, pendingBoot, isNextBootHeld, before } = state;
  return { ...emptyState(source), journal, pendingBoot, isNextBootHeld, before };
}

/** The newest hundred are remembered, each path once. */
export function rememberBad(state: AgentState, build: BadBuild): AgentState {
  const others = state.bad.filter(({ storePath }) => storePath !== build.storePath);
  return { ...state, bad: [...others, build].slice(-BAD_BUILDS_MAX) };
}

/** A failure that the server has taken note of is now its to hold back, and its to release. */
export function confirmBad(state: AgentState, storePath: unknown): AgentState {
  const bad = state.bad.map((build) => (build.storePath === storePath ? { ...build, isConfirmed: true } : build));
  return { ...state, bad };
}
