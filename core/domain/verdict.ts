import { naiveTime } from "../api/times.ts";
import {
  type Standing,
  VERDICT_ATTRIBUTES_MAX,
  VERDICT_ERRORS_MAX,
  VERDICT_FAILURES_MAX,
  type VerdictAttributeCounts,
  type VerdictBuildCounts,
  type VerdictError,
  type VerdictFailure,
  type VerdictView,
} from "../api/verdicts.ts";
import { formatAttributePath } from "../nix/attribute-path.ts";
import { packageVersion } from "../nix/package-version.ts";
import { findCauses } from "./failure-graph.ts";
import { ACTIVE_EVALUATION, BuildStatus, buildStatusName, EvaluationStatus, SUCCESSFUL_BUILD } from "./states.ts";
import type { AttributeFact, BuildCount, ErrorFact, VerdictFacts } from "./verdict-facts.ts";
import { summarize } from "./verdict-summary.ts";

export type Verdict = VerdictView;

export interface Judgement {
  /** Without the lines of logs. */
  readonly verdict: Verdict;
  /** Of each of the failures that are listed, the attempt whose log tells. */
  readonly attemptIds: readonly (string | null)[];
}

/** Why an evaluation is red, from the facts alone. */
export function judge(facts: VerdictFacts): Judgement {
  const { evaluation, base, errors } = facts;
  const standingOf = attributeStandings(base?.redAttributes);
  const takenDown = attributesByCause(facts);
  const states = facts.attributes.map((fact) => stateOf(facts, fact, takenDown.explained));
  const failures = rankFailures(facts, takenDown.byCause, standingOf);
  const shownErrors = errors.map((error) => viewError(error, standingOf));
  const fixed = base ? fixedAttributes(facts, states, base.redAttributes) : [];
  const result = resultOf(evaluation.status);
  const verdict: Omit<Verdict, "summary"> = {
    evaluation: evaluation.id,
    result,
    final: false,
    compared_with: base && { evaluation: base.id, commit: base.commit },
    attributes: countAttributes(facts, states, standingOf),
    builds: countBuilds(facts.builds),
    failures: failures.slice(0, VERDICT_FAILURES_MAX).map(({ failure }) => failure),
    failures_total: failures.length,
    errors: shownErrors.slice(0, VERDICT_ERRORS_MAX),
    errors_total: shownErrors.length,
    fixed: fixed.slice(0, VERDICT_ATTRIBUTES_MAX),
    fixed_total: fixed.length,
    truncated: facts.cut || facts.graph === null,
  };
  return {
    verdict: { ...verdict, summary: summarize(verdict) },
    attemptIds: failures.slice(0, VERDICT_FAILURES_MAX).map(({ attemptId }) => attemptId),
  };
}

type StandingOf = (attribute: string) => Standing;
type AttributeState = "green" | "red" | "other";

function attributeStandings(redBefore: readonly (readonly string[])[] | undefined): StandingOf {
  if (!redBefore) return () => null;
  const before = new Set(redBefore.map(formatAttributePath));
  return (attribute) => (before.has(attribute) ? "red_before" : "new");
}

interface TakenDown {
  /** By attribute; no more of them than are shown. */
  readonly shown: readonly string[];
  readonly total: number;
}

/** The attributes that each cause takes down, and the builds that a failure explains. */
function attributesByCause({ attributes, graph, causes, evaluation }: VerdictFacts): {
  readonly byCause: ReadonlyMap<string, TakenDown>;
  readonly explained: ReadonlySet<string>;
} {
  const isAborted = evaluation.status === EvaluationStatus.Aborted;
  const known = new Set(causes.filter(({ status }) => !isAborted || isFailure(status)).map(({ id }) => id));
  const byCause = new Map<string, { shown: string[]; total: number }>();
  for (const id of known) byCause.set(id, { shown: [], total: 0 });
  const causesOf = graph && findCauses(graph);
  const taken = graph?.causes.map(({ id }) => byCause.get(id)) ?? [];
  const explained = new Set<string>();
  for (const { attribute, build_id } of attributes) {
    const own = causesOf ? causesOf(build_id).map((place) => taken[place]) : [byCause.get(build_id)];
    for (const cause of own) {
      if (!cause) continue;
      if (cause.total++ < VERDICT_ATTRIBUTES_MAX) cause.shown.push(formatAttributePath(attribute));
      explained.add(build_id);
    }
  }
  return { byCause, explained };
}

/** What was only given up because the evaluation was aborted is neither green nor red. */
function stateOf(
  { evaluation }: VerdictFacts,
  { status, build_id }: AttributeFact,
  explained: ReadonlySet<string>,
): AttributeState {
  if ((SUCCESSFUL_BUILD as readonly number[]).includes(status)) return "green";
  if (isFailure(status)) return "red";
  if (status !== BuildStatus.DependencyFailed && status !== BuildStatus.Aborted) return "other";
  if (evaluation.status !== EvaluationStatus.Aborted) return "red";
  return explained.has(build_id) ? "red" : "other";
}

function isFailure(status: number): boolean {
  return status === BuildStatus.FailedPermanent || status === BuildStatus.FailedTimeout;
}

function rankFailures(
  { base, causes }: VerdictFacts,
  byCause: ReadonlyMap<string, TakenDown>,
  standingOf: StandingOf,
): { readonly failure: VerdictFailure; readonly attemptId: string | null }[] {
  const failedBefore = new Set(base?.failed.map(packageKey));
  const failures = causes.map((cause) => {
    const { shown = [], total = 0 } = byCause.get(cause.id) ?? {};
    const failure: VerdictFailure = {
      build: cause.link_id,
      derivation: cause.drv_path,
      name: cause.name,
      architecture: cause.system,
      status: buildStatusName(cause.status),
      standing: base && (failedBefore.has(packageKey(cause)) ? "red_before" : "new"),
      message: cause.message,
      phase: null,
      lines: [],
      failed_at: cause.finished_at && naiveTime(cause.finished_at),
      earlier: cause.earlier,
      attributes: shown.map((attribute) => ({ attribute, standing: standingOf(attribute) })),
      attributes_total: total,
    };
    return { failure, attemptId: cause.attempt_id };
  });
  return failures.sort((a, b) => compareFailures(a.failure, b.failure));
}

/** Every commit gives what fails another derivation, and perhaps another version. */
function packageKey({ name, system }: { readonly name: string; readonly system: string }): string {
  return `${system} ${packageVersion(name).name}`;
}

function compareFailures(a: VerdictFailure, b: VerdictFailure): number {
  const isNew = Number(b.standing === "new") - Number(a.standing === "new");
  return isNew || b.attributes_total - a.attributes_total || (a.derivation < b.derivation ? -1 : 1);
}

function viewError({ attribute, message, source }: ErrorFact, standingOf: StandingOf): VerdictError {
  const text = attribute && formatAttributePath(attribute);
  return { attribute: text, message, source, standing: text === null ? null : standingOf(text) };
}

function fixedAttributes(
  { attributes }: VerdictFacts,
  states: readonly AttributeState[],
  redBefore: readonly (readonly string[])[],
): string[] {
  const before = new Set(redBefore.map(formatAttributePath));
  const green = attributes.filter((_, index) => states[index] === "green");
  return green.map(({ attribute }) => formatAttributePath(attribute)).filter((attribute) => before.has(attribute));
}

function countAttributes(
  { base, attributes, errors }: VerdictFacts,
  states: readonly AttributeState[],
  standingOf: StandingOf,
): VerdictAttributeCounts {
  const built = attributes.map(({ attribute }) => formatAttributePath(attribute));
  const names = new Set(built);
  const broken = new Set(errors.flatMap(({ attribute }) => (attribute ? [formatAttributePath(attribute)] : [])));
  const red = new Set([...built.filter((_, index) => states[index] === "red"), ...broken]);
  const newHere = [...red].filter((attribute) => standingOf(attribute) === "new").length;
  return {
    total: new Set([...names, ...broken]).size,
    green: states.filter((state, index) => state === "green" && !broken.has(built[index] as string)).length,
    red: red.size,
    other: states.filter((state, index) => state === "other" && !broken.has(built[index] as string)).length,
    new_here: base && newHere,
    red_before: base && red.size - newHere,
  };
}

function countBuilds(counts: readonly BuildCount[]): VerdictBuildCounts {
  const sum = (...statuses: readonly number[]) =>
    counts.reduce((total, { status, count }) => total + (statuses.includes(status) ? count : 0), 0);
  return {
    completed: sum(BuildStatus.Completed),
    substituted: sum(BuildStatus.Substituted),
    failed: sum(BuildStatus.FailedPermanent, BuildStatus.FailedTimeout),
    dependency_failed: sum(BuildStatus.DependencyFailed),
    aborted: sum(BuildStatus.Aborted),
    open: sum(BuildStatus.Created, BuildStatus.Queued, BuildStatus.Building, BuildStatus.FailedTransient),
  };
}

function resultOf(status: number): Verdict["result"] {
  if ((ACTIVE_EVALUATION as readonly number[]).includes(status)) return "running";
  if (status === EvaluationStatus.Aborted) return "aborted";
  return status === EvaluationStatus.Completed ? "green" : "red";
}
