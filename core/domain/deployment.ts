import { type DeploymentMode, type DeploymentStepName, type DeployState, HOST_NAME_PATTERN } from "../api/hosts.ts";
import { TRIGGER_TYPES, type TriggerConfig, type TriggerTypeName } from "../api/triggers.ts";
import type { Fleet } from "./deployment-fleet.ts";
import { type WaveObstacle, waveObstacle } from "./deployment-waves.ts";

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

/** As JavaScript and PostgreSQL read it. */
export const WHOLE_HOST_NAME: string = `^${HOST_NAME_PATTERN}$`;
const HOST_NAME = new RegExp(WHOLE_HOST_NAME);

/** Names of hosts as they are addressed; what else Nix lets be an attribute is the name of no host. */
export function isHostName(text: string): boolean {
  return HOST_NAME.test(text);
}

export interface Decision {
  readonly state: DeployState;
  readonly why:
    | null
    | { readonly kind: "no_branch" | "not_built" | "not_available" | "failed_here" | "held" }
    | { readonly kind: "failed_elsewhere"; readonly host: string }
    | WaveObstacle;
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
  const obstacle = waveObstacle(fleet, { name, order: system.order }, nowMs);
  return obstacle ? { state: "waiting", why: obstacle } : { state: "deploy", why: null };
}

/** Whether what a run brought is bad: it ran on the host, and did not go well. */
export function hasFailed(steps: readonly DeploymentStepName[], mode: DeploymentMode): boolean {
  if (mode === "dry-activate") return false;
  if (steps.includes("rolled_back")) return true;
  return steps.includes("failed") && (steps.includes("activating") || steps.includes("checking"));
}
