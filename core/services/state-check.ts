import { readState, STATE_SECTIONS, type StateDocument, type StatePath, type StateProblem } from "../api/state.ts";
import { checkAccounts } from "./state-check-accounts.ts";
import { checkCaches } from "./state-check-caches.ts";
import { checkProjects } from "./state-check-projects.ts";
import { StateChecks, type StateRules } from "./state-checks.ts";
import { checkSecretNames } from "./state-secrets.ts";

export interface CheckedState {
  readonly document: StateDocument;
  /** Of the whole file, in the order of its sections. Without any, the document is whole and consistent. */
  readonly problems: readonly StateProblem[];
  /** What may well be meant, but is better looked at. */
  readonly warnings: readonly StateProblem[];
}

/** Reads a state file's JSON and finds everything that is wrong with it, as far as that shows without a database. */
export function checkState(json: unknown, rules: StateRules): CheckedState {
  const reading = readState(json);
  const checks = new StateChecks(reading.document, reading.names, rules);
  checkAccounts(checks);
  checkProjects(checks);
  checkCaches(checks);
  checkSecretNames(checks);
  const found = checks.problems.filter(({ path }) => !reading.mended.some((field) => beginsWith(path, field)));
  return {
    document: reading.document,
    problems: [...reading.problems, ...found].sort((a, b) => sectionOf(a) - sectionOf(b)),
    warnings: checks.warnings,
  };
}

function beginsWith(path: StatePath, field: StatePath): boolean {
  return field.every((part, i) => path[i] === part);
}

/** Words that are no section come first. */
function sectionOf({ path }: StateProblem): number {
  return (STATE_SECTIONS as readonly unknown[]).indexOf(path[0]);
}
