import { ENDS, type End } from "./ends.ts";
import { MODES } from "./settings.ts";
import {
  type AgentState,
  BAD_BUILDS_MAX,
  type BadBuild,
  type Cause,
  GOALS,
  type Journal,
  type LastRun,
  type PendingBoot,
  PHASES,
  type QueuedReport,
  type Refusals,
  type SystemView,
  type Target,
} from "./state.ts";

/** The state has a version that only later agents know. */
export class LaterStateError extends Error {
  override readonly name = "LaterStateError";
}

/** The text is no state of this agent. */
export class StateFormError extends Error {
  override readonly name = "StateFormError";
}

type Fields = Readonly<Record<string, unknown>>;
const LIST_MAX = 10_000;
const ENDS_BY_NAME = Object.keys(ENDS) as readonly End[];

/** Reads what `StateFile` writes, field by field. Throws `StateFormError` and `LaterStateError`. */
export function readState(text: string): AgentState {
  const fields = object(parseJson(text));
  checkVersion(fields);
  return {
    version: 1,
    source: string(fields.source),
    journal: nullable(fields.journal, readJournal),
    order: nullable(fields.order, number),
    deployed: nullable(fields.deployed, readTarget),
    // The first agents did not remember it.
    deployedFailedUnits: nullable(fields.deployedFailedUnits ?? null, (units) => list(units, string)),
    before: nullable(fields.before, readView),
    pendingBoot: nullable(fields.pendingBoot, readPendingBoot),
    isNextBootHeld: boolean(fields.isNextBootHeld ?? false),
    bad: list(fields.bad, readBad).slice(-BAD_BUILDS_MAX),
    reports: list(fields.reports, readReport),
    toldNoPermission: boolean(fields.toldNoPermission),
    lastRun: lastRunOrNull(fields.lastRun),
  };
}

/** Reads `refusals.json`. Throws as `readState` does. */
export function readRefusals(text: string): Refusals {
  const fields = object(parseJson(text));
  checkVersion(fields);
  return {
    version: 1,
    source: string(fields.source),
    order: nullable(fields.order, number),
    bad: list(fields.bad, readBad).slice(-BAD_BUILDS_MAX),
  };
}

function checkVersion({ version }: Fields): void {
  if (version === 1) return;
  const shown = JSON.stringify(version)?.slice(0, 100);
  if (Number.isSafeInteger(version) && Number(version) > 1) throw new LaterStateError(`its version is ${shown}, not 1`);
  throw new StateFormError(`its version is ${shown} and not 1`);
}

/** Shown and no more: a way to end that only later agents know is no reason to forget the rest. */
function lastRunOrNull(value: unknown): LastRun | null {
  try {
    return nullable(value, readLastRun);
  } catch (error) {
    if (error instanceof StateFormError) return null;
    throw error;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new StateFormError(`it is no JSON: ${(error as Error).message}`);
  }
}

function readJournal(value: unknown): Journal {
  const fields = object(value);
  return {
    runId: string(fields.runId),
    sequence: number(fields.sequence),
    goal: choice(fields.goal, GOALS),
    mode: choice(fields.mode, MODES),
    phase: choice(fields.phase, PHASES),
    target: readTarget(fields.target),
    before: readView(fields.before),
    failedUnitsBefore: nullable(fields.failedUnitsBefore, (units) => list(units, string)),
    attempts: number(fields.attempts),
    switchToken: nullable(fields.switchToken, readToken),
    cause: nullable(fields.cause, readCause),
    profileRestored: boolean(fields.profileRestored),
    // The first agents had neither.
    rollbackFailed: boolean(fields.rollbackFailed ?? false),
    unfinished: nullable(fields.unfinished ?? null, (journal) => ({ ...readJournal(journal), unfinished: null })),
    startedAt: string(fields.startedAt),
  };
}

/** It becomes a part of file names. */
function readToken(value: unknown): string {
  const token = string(value);
  if (!/^[0-9a-f-]{1,64}$/.test(token)) throw new StateFormError("switchToken is no token");
  return token;
}

function readTarget(value: unknown): Target {
  const fields = object(value);
  return {
    storePath: string(fields.storePath),
    buildId: string(fields.buildId),
    evaluationId: string(fields.evaluationId),
    order: number(fields.order),
    commit: string(fields.commit),
  };
}

function readView(value: unknown): SystemView {
  const fields = object(value);
  return {
    profilePath: nullable(fields.profilePath, string),
    generation: nullable(fields.generation, number),
    runningPath: nullable(fields.runningPath, string),
    bootedPath: nullable(fields.bootedPath, string),
  };
}

function readCause(value: unknown): Cause {
  const fields = object(value);
  return {
    // Of one that only later agents know, what counts is that this has to be undone.
    end: ENDS_BY_NAME.find((one) => one === string(fields.end)) ?? "rolled-back",
    reason: string(fields.reason),
    failedUnits: list(fields.failedUnits, string),
  };
}

function readPendingBoot(value: unknown): PendingBoot {
  const fields = object(value);
  return {
    target: readTarget(fields.target),
    before: readView(fields.before),
    mode: choice(fields.mode, MODES),
    bootId: string(fields.bootId),
    failedUnitsBefore: nullable(fields.failedUnitsBefore, (units) => list(units, string)),
  };
}

function readBad(value: unknown): BadBuild {
  const fields = object(value);
  return {
    storePath: string(fields.storePath),
    buildId: string(fields.buildId),
    reason: string(fields.reason),
    at: string(fields.at),
    isConfirmed: boolean(fields.isConfirmed),
  };
}

function readReport(value: unknown): QueuedReport {
  const fields = object(value);
  return { body: object(fields.body), isLast: boolean(fields.isLast) };
}

function readLastRun(value: unknown): LastRun {
  const fields = object(value);
  return {
    end: readEnd(fields.end),
    exitCode: number(fields.exitCode),
    reason: nullable(fields.reason, string),
    finishedAt: string(fields.finishedAt),
  };
}

function readEnd(value: unknown): End {
  return choice(value, ENDS_BY_NAME);
}

function nullable<Value>(value: unknown, read: (value: unknown) => Value): Value | null {
  return value === null ? null : read(value);
}

function list<Value>(value: unknown, read: (value: unknown) => Value): readonly Value[] {
  if (!Array.isArray(value) || value.length > LIST_MAX) throw new StateFormError("a list is missing or too long");
  return value.map(read);
}

function choice<const Choice extends string>(value: unknown, choices: readonly Choice[]): Choice {
  const found = choices.find((one) => one === value);
  if (found === undefined) throw new StateFormError(`${JSON.stringify(value)} is none of ${choices.join(", ")}`);
  return found;
}

function object(value: unknown): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new StateFormError("an object is missing");
  }
  return value as Fields;
}

function string(value: unknown): string {
  if (typeof value !== "string") throw new StateFormError("a text is missing");
  return value;
}

function number(value: unknown): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value)) throw new StateFormError("a number is missing");
  return value;
}

function boolean(value: unknown): boolean {
  if (typeof value !== "boolean") throw new StateFormError("true or false is missing");
  return value;
}
