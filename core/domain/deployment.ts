import type { DeploymentMode, DeploymentStepName, DeployState } from "../api/hosts.ts";
import { TRIGGER_TYPES, type TriggerConfig, type TriggerTypeName } from "../api/triggers.ts";
import { HOUR, SECOND } from "../lib/clock.ts";

/** A host that was not heard of for so long holds up no wave. */
export const SILENT_MS: number = 48 * HOUR;

/** What an evaluation is made from. */
export interface EvaluationOrigin {
  readonly branch: string | null;
  /** Null: a person began it. */
  readonly triggerType: number | null;
  /** It is of the project's repository, and not of sources that somebody sent. */
  readonly ofRepository: boolean;
  /** A member has to look at it first: it comes from outside. */
  readonly needsApproval: boolean;
}

const DEPLOYING_TRIGGERS: readonly TriggerTypeName[] = ["polling", "reporter_push", "time"];

/** Whether what the evaluation builds may go to hosts: it is of a branch, and no stranger proposes it. */
export function mayDeploy({ branch, triggerType, ofRepository, needsApproval }: EvaluationOrigin): boolean {
  const name = triggerType === null ? null : TRIGGER_TYPES[triggerType];
  const began = name === null || (name !== undefined && DEPLOYING_TRIGGERS.includes(name));
  return branch !== null && began && ofRepository && !needsApproval;
}

export interface BranchSettings {
  readonly deploy_branch: string | null;
  readonly default_branch: string | null;
}

/**
 * The branch that hosts follow: the one that is set, else that of the first trigger which names one (the active before
 * the others, the oldest first), else the repository's default. Null: nobody has said.
 */
export function deployBranchOf(
  { deploy_branch, default_branch }: BranchSettings,
  triggers: readonly { readonly config: TriggerConfig; readonly active: boolean }[],
): string | null {
  if (deploy_branch !== null) return deploy_branch;
  const inOrder = [...triggers.filter(({ active }) => active), ...triggers.filter(({ active }) => !active)];
  for (const { config } of inOrder) {
    // Without a branch it looks at the default one.
    if (config.type === "polling") return config.branch ?? default_branch;
    const [only, ...others] = config.type === "reporter_push" ? config.branches : [];
    if (only !== undefined && others.length === 0 && !only.includes("*")) return only;
  }
  return default_branch;
}

/** Paths in a flake at which a host's system may stand; the first is preferred. */
export function systemAttributes(host: string): readonly (readonly string[])[] {
  return [
    ["nixosConfigurations", host, "config", "system", "build", "toplevel"],
    ["nixosConfigurations", host],
  ];
}

const HOST_NAME = /^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,252}$/;

/** Names of hosts as they are addressed; what else Nix lets be an attribute is the name of no host. */
export function isHostName(text: string): boolean {
  return HOST_NAME.test(text);
}

/** The newest system that was built for a host. */
export interface WantedSystem {
  /** Base name. */
  readonly storePath: string;
  /** It can be had. */
  readonly available: boolean;
  readonly order: number;
  readonly commit: string;
}

/** A host as it told of itself. */
export interface KnownHost {
  readonly name: string;
  readonly runningPath: string | null;
  /** Milliseconds; null where it is not healthy, or nobody knows. */
  readonly healthySince: number | null;
  readonly lastContactAt: number;
}

export interface Hold {
  /** Null: the commit is kept from all hosts. */
  readonly host: string | null;
  readonly storePath: string | null;
  readonly commit: string | null;
  /** Whose failure it comes from; null: somebody holds it. */
  readonly failedHost: string | null;
}

/** Everything by which is decided what each host of a project gets. */
export interface Fleet {
  readonly branch: string | null;
  /** By the names of hosts, also of those that never told of themselves. */
  readonly wanted: ReadonlyMap<string, WantedSystem>;
  readonly hosts: readonly KnownHost[];
  readonly holds: readonly Hold[];
  readonly settings: DeploySettings;
}

export interface DeploySettings {
  /** A failure on one host keeps the commit from the others. */
  readonly hold: boolean;
  /** From 1 to 100. */
  readonly wavePercent: number;
  readonly soakSeconds: number;
}

export interface Decision {
  readonly state: DeployState;
  readonly why:
    | null
    | { readonly kind: "no_branch" | "not_built" | "not_available" | "failed_here" | "held" }
    | { readonly kind: "failed_elsewhere"; readonly host: string }
    | { readonly kind: "wave"; readonly host: string; readonly problem: "not_there" | "not_healthy" | "soaking" };
}

/** What a host is to do at this moment. */
export function decideFor(fleet: Fleet, name: string, nowMs: number): Decision {
  if (fleet.branch === null) return { state: "none", why: { kind: "no_branch" } };
  const system = fleet.wanted.get(name);
  if (!system) return { state: "none", why: { kind: "not_built" } };
  if (!system.available) return { state: "none", why: { kind: "not_available" } };
  const host = fleet.hosts.find((known) => known.name === name);
  if (host?.runningPath === system.storePath) return { state: "deploy", why: null };

  const own = fleet.holds.find((hold) => hold.host === name && hold.storePath === system.storePath);
  if (own) return { state: "held", why: { kind: "failed_here" } };
  for (const { host: only, commit, failedHost } of fleet.holds) {
    if (only !== null || commit !== system.commit) continue;
    if (failedHost === null) return { state: "held", why: { kind: "held" } };
    // Its own failure is kept from it by its store path: released there, it may try again.
    if (fleet.settings.hold && failedHost !== name) {
      return { state: "held", why: { kind: "failed_elsewhere", host: failedHost } };
    }
  }
  return waveOf(fleet, { name, order: system.order }, nowMs);
}

/**
 * Wave `k` is the first `n * percent * k / 100` hosts, rounded up, in the order of their names. One may begin when all
 * hosts before it run the new system, and have been healthy on it for the soak time. Who never told of itself comes
 * last.
 */
function waveOf(
  fleet: Fleet,
  { name, order }: { readonly name: string; readonly order: number },
  nowMs: number,
): Decision {
  const { wavePercent, soakSeconds } = fleet.settings;
  if (wavePercent >= 100) return { state: "deploy", why: null };
  const taking = fleet.hosts
    .filter((host) => fleet.wanted.get(host.name)?.order === order)
    .filter((host) => host.name === name || nowMs - host.lastContactAt < SILENT_MS)
    .sort((one, other) => (one.name < other.name ? -1 : 1));
  const place = taking.findIndex((host) => host.name === name);
  const before = place < 0 ? taking.length : waveStart(taking.length, wavePercent, place);
  for (const host of taking.slice(0, before)) {
    const problem = problemOf(host, fleet.wanted.get(host.name)?.storePath ?? "", soakSeconds * SECOND, nowMs);
    if (problem) return { state: "waiting", why: { kind: "wave", host: host.name, problem } };
  }
  return { state: "deploy", why: null };
}

/** How many hosts are in the waves before that of the host at this place. */
export function waveStart(count: number, percent: number, place: number): number {
  let start = 0;
  for (let wave = 1; ; wave++) {
    const end = Math.ceil((count * percent * wave) / 100);
    if (place < end || end >= count) return start;
    start = end;
  }
}

function problemOf(host: KnownHost, storePath: string, soakMs: number, nowMs: number) {
  if (host.runningPath !== storePath) return "not_there" as const;
  if (host.healthySince === null) return "not_healthy" as const;
  return nowMs - host.healthySince < soakMs ? ("soaking" as const) : null;
}

/** Whether what a run brought is bad: it ran on the host, and did not go well. */
export function hasFailed(steps: readonly DeploymentStepName[], mode: DeploymentMode): boolean {
  if (mode === "dry-activate") return false;
  if (steps.includes("rolled_back")) return true;
  return steps.includes("failed") && (steps.includes("activating") || steps.includes("checking"));
}
