import type { End } from "./ends.ts";
import { isInPlace } from "./machine.ts";
import type { Mode } from "./settings.ts";
import type { AgentState, SystemView, Target } from "./state.ts";

/** What the server says of this host. */
export interface Wanted {
  readonly state: "deploy" | "none" | "held" | "waiting";
  readonly reason: string | null;
  readonly build: WantedBuild | null;
  readonly caches: readonly WantedCache[];
  readonly canReport: boolean;
}

export type WantedBuild = Target;

export interface WantedCache {
  readonly name: string;
  readonly url: string;
  readonly publicKeys: readonly string[];
  readonly isPrivate: boolean;
  readonly priority: number;
}

export interface Wishes {
  readonly force: boolean;
  readonly allowOlder: boolean;
}

export type Decision =
  | { readonly kind: "deploy"; readonly target: WantedBuild }
  | { readonly kind: "end"; readonly end: End; readonly reason: string | null };

/**
 * Whether the wanted build is deployed now. What is there and well is never done again, even by force. A failed build
 * is tried again by force, or when the server knows of the failure and offers the build all the same.
 */
export function decide(
  wanted: Wanted,
  known: {
    readonly state: AgentState;
    readonly view: SystemView;
    readonly mode: Mode;
    /** What is set up for the next boot. */
    readonly nextBoot: Target | null;
  },
  { force, allowOlder }: Wishes,
): Decision {
  const { state, view, mode, nextBoot } = known;
  const target = wanted.build;
  if (wanted.state === "none" || !target) return end("nothing-built", wanted.reason);
  const bad = state.bad.find(({ storePath }) => storePath === target.storePath);
  const isThere = isInPlace(view, target.storePath, mode);
  // What could not be undone is in place and was not released: the next run tries again.
  const isStuck = isThere && state.journal?.cause != null;
  const isReleased = bad?.isConfirmed === true && wanted.state === "deploy" && !isStuck;
  if (bad && !isReleased && !force) {
    return end("bad-build", `${target.storePath} failed here at ${bad.at}: ${bad.reason}`);
  }
  const waitsForBoot = nextBoot?.storePath === target.storePath && view.runningPath !== target.storePath;
  const isKept = (wanted.state === "held" || wanted.state === "waiting") && !force;
  if (waitsForBoot && !bad) {
    if (!isKept) return end("will-boot", "it is set up for the next boot");
    return end(wanted.state as End, `${wanted.reason ?? wanted.state}; it is set up for the next boot already`);
  }
  if (isThere && (!bad || (isReleased && !force))) return end("up-to-date", null);
  if (wanted.state === "held" && !force) return end("held", wanted.reason);
  if (wanted.state === "waiting" && !force) return end("waiting", wanted.reason);
  if (state.order !== null && target.order < state.order && !force && !allowOlder) {
    const reason = `build ${target.buildId} is of evaluation ${target.order}, this host had ${state.order} already`;
    return end("older", `${reason}; --allow-older deploys it all the same`);
  }
  return { kind: "deploy", target };
}

function end(name: End, reason: string | null): Decision {
  return { kind: "end", end: name, reason };
}
