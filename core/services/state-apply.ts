import type { StateDocument, StateProblem } from "../api/state.ts";
import { describeProblem } from "../api/state.ts";
import { lockState } from "../db/state-rows.ts";
import { inTransaction } from "../db/transaction.ts";
import { uniqueViolation } from "../db/violations.ts";
import { recordAudit } from "./audit.ts";
import { reconcileApiKeys, removeApiKeys } from "./state-api-keys.ts";
import { reconcileCaches, removeCaches } from "./state-caches.ts";
import { type StateChange, StateContext, type StateDeps, type StateOptions } from "./state-context.ts";
import { reconcileIntegrations, removeIntegrations } from "./state-integrations.ts";
import { reconcileOrganizations, removeOrganizations } from "./state-organizations.ts";
import { reconcileProjects, removeProjects } from "./state-projects.ts";
import { reconcileOrganizationMembers, reconcileRoles, removeRoles } from "./state-roles.ts";
import type { StateSecrets } from "./state-secrets.ts";
import { reconcileUsers, removeUsers } from "./state-users.ts";
import { reconcileWorkers } from "./state-workers.ts";

export interface AppliedState {
  readonly changes: readonly StateChange[];
  readonly warnings: readonly string[];
}

/** The file contradicts what is on the server. The message has one line for each place. */
export class StateError extends Error {
  override readonly name = "StateError";
  readonly problems: readonly StateProblem[];

  constructor(problems: readonly StateProblem[]) {
    super(`the state file cannot be applied:\n${problems.map((one) => `  - ${describeProblem(one)}`).join("\n")}`);
    this.problems = problems;
  }
}

/** In the order in which one needs the other. */
const STEPS: readonly ((context: StateContext) => Promise<void>)[] = [
  reconcileUsers,
  reconcileOrganizations,
  reconcileRoles,
  reconcileOrganizationMembers,
  reconcileIntegrations,
  reconcileProjects,
  reconcileCaches,
  reconcileApiKeys,
  reconcileWorkers,
  removeApiKeys,
  removeProjects,
  removeIntegrations,
  removeRoles,
  removeCaches,
  removeOrganizations,
  removeUsers,
];

/**
 * Makes the server hold what the checked document says: all of it or, with a `StateError`, nothing. The same document
 * again writes no row. Servers that start together do it one after the other.
 */
export async function applyState(
  deps: StateDeps,
  input: { readonly document: StateDocument; readonly secrets: StateSecrets; readonly options: StateOptions },
): Promise<AppliedState> {
  const context = await inTransaction(
    deps.db,
    async (trx) => {
      await lockState(trx);
      const context = new StateContext(trx, deps, input);
      for (const step of STEPS) {
        await step(context);
        // Later steps would build on what is not there.
        if (context.problems.length > 0) throw new StateError(context.problems);
      }
      await recordChanges(context);
      return context;
    },
    deps,
  ).catch(explain);
  announce(context);
  return { changes: context.changes, warnings: context.warnings };
}

async function recordChanges({ trx, changes }: StateContext): Promise<void> {
  if (changes.length === 0) return;
  const metadata = { changes: changes.map(({ did, what }) => `${did}: ${what}`) };
  await recordAudit(trx, { event: "state.apply", userId: null, metadata });
}

/** Once it is committed. */
function announce({ deps: { notifier }, wakeups, staleCaches, staleRegistrations }: StateContext): void {
  wakeups.send(notifier);
  for (const id of staleCaches) notifier.notify("path", `${id}/`);
  for (const subject of staleRegistrations) notifier.notify("registration", subject);
}

/** Somebody took a name between the look at it and its use. */
function explain(error: unknown): never {
  const constraint = uniqueViolation(error);
  if (constraint === null) throw error;
  throw new Error(
    `the state file could not be applied, since somebody changed the same things: start again (${constraint})`,
    {
      cause: error,
    },
  );
}
