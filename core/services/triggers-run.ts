import type { TriggerConfig } from "../api/triggers.ts";
import { listActiveEvaluations } from "../db/projects-evaluations.ts";
import { type DueTime, type DueTrigger, listDueTriggers, noteProjectChecked, noteTrigger } from "../db/triggers.ts";
import { DomainError } from "../errors.ts";
import { sleep } from "../lib/clock.ts";
import { randomFraction } from "../lib/ids.ts";
import type { ProjectDeps } from "./projects-deps.ts";
import { branchNamedBy, type Head, resolveHead } from "./projects-head.ts";
import { fireTrigger } from "./triggers-fire.ts";
import { configOf, nextDue, retryDue } from "./triggers-rules.ts";

export type TriggerDeps = Pick<ProjectDeps, "db" | "clock" | "random" | "notifier" | "log" | "git" | "projects">;

/** Fewer than git takes at a time: people who ask for a repository find a place beside them. */
export const LOOKS_MAX = 6;
/** After an error that could not even be written down. */
const FAILED_MS = 30_000;
const UNEXPECTED = "The server met an unexpected error; its log holds the cause";

/** Looks at triggers that are due, some at a time. One is not looked at twice at once. */
export class TriggerLooks {
  readonly #deps: TriggerDeps;
  readonly #signal: AbortSignal;
  readonly #running = new Map<string, Promise<void>>();

  constructor(deps: TriggerDeps, signal: AbortSignal) {
    this.#deps = deps;
    this.#signal = signal;
  }

  /** Begins to look at what is due, as far as there is room. False when there was more than room for. */
  async begin(): Promise<boolean> {
    const room = LOOKS_MAX - this.#running.size;
    if (room === 0) return false;
    const due = await listDueTriggers(this.#deps.db, { limit: room, except: [...this.#running.keys()] });
    for (const trigger of due) this.#begin(trigger);
    return due.length < room;
  }

  /** Resolves when one of those that are being looked at is done; at once when there is none. */
  async oneDone(): Promise<void> {
    if (this.#running.size > 0) await Promise.race(this.#running.values());
  }

  async allDone(): Promise<void> {
    await Promise.all(this.#running.values());
  }

  #begin(trigger: DueTrigger): void {
    const look = lookAtTrigger(this.#deps, trigger, this.#signal)
      .catch(async (error: unknown) => {
        if (this.#signal.aborted) return;
        this.#deps.log.error("a trigger was not looked at; it is tried again", { error, trigger: trigger.id });
        await sleep(this.#deps.clock, FAILED_MS, this.#signal);
      })
      .finally(() => this.#running.delete(trigger.id));
    this.#running.set(trigger.id, look);
  }
}

/** Somebody has changed the trigger, or another server looked at it: what was found out counts no more. */
class TriggerChangedError extends Error {
  override readonly name = "TriggerChangedError";
}

/**
 * Looks at the repository of a trigger that is due, and begins an evaluation when there is a reason. What it came to is
 * written to the trigger's row; it throws only when that cannot be written, or the signal is aborted.
 */
export async function lookAtTrigger(deps: TriggerDeps, trigger: DueTrigger, signal: AbortSignal): Promise<void> {
  const config = configOf(trigger);
  const began = deps.clock.monotonic();
  // The database's clock: looking may take long, and a time that passed meanwhile is not caught up too.
  const now = () => trigger.now.getTime() + deps.clock.monotonic() - began;
  const fraction = randomFraction(deps.random);
  try {
    const head = await resolveHead(deps, trigger, { branch: branchNamedBy(config), signal });
    await evaluateIfNew(deps, trigger, { config, head, next: () => nextDue(config, now(), fraction) });
  } catch (error) {
    if (signal.aborted || error instanceof TriggerChangedError) return;
    // The project's repository was changed, or it is gone: it is looked at anew as it is now.
    if (error instanceof DomainError && (error.code === "conflict" || error.code === "not_found")) return;
    if (!(error instanceof DomainError)) deps.log.error("a trigger failed", { error, trigger: trigger.id });
    await noteTrigger(deps.db, trigger, {
      due: retryDue(config, now(), trigger.failures + 1, fraction),
      error: error instanceof DomainError ? error.message : UNEXPECTED,
    });
  }
}

async function evaluateIfNew(
  deps: TriggerDeps,
  trigger: DueTrigger,
  { config, head, next }: { readonly config: TriggerConfig; readonly head: Head; readonly next: () => DueTime },
): Promise<void> {
  const { commit } = head;
  await noteProjectChecked(deps.db, trigger.project_id, head.defaultBranch);
  const forced = trigger.force_evaluation && (await isIdle(deps, trigger.project_id));
  const onlyNew = config.type === "polling" && !forced;
  if (onlyNew && commit === trigger.last_commit) return await noteOrThrow(deps.db, trigger, { due: next() });

  const { outcome } = await fireTrigger(deps, {
    triggerId: trigger.id,
    type: trigger.type,
    projectId: trigger.project_id,
    organizationId: trigger.organization_id,
    repository: trigger.repository,
    commit,
    branch: head.branch,
    startedBy: null,
    skipSameCommit: onlyNew,
    note: (trx) => noteOrThrow(trx, trigger, { due: next(), commit, fired: true }),
  });
  if (outcome === "Created") return;
  // A commit for which there was no room is new the next time, too.
  const seen = outcome === "SkippedSameCommit" ? { commit } : {};
  await noteOrThrow(deps.db, trigger, { due: next(), ...seen });
}

async function isIdle({ db }: TriggerDeps, projectId: string): Promise<boolean> {
  return (await listActiveEvaluations(db, projectId, 1)).length === 0;
}

async function noteOrThrow(...[db, trigger, note]: Parameters<typeof noteTrigger>): Promise<void> {
  if (!(await noteTrigger(db, trigger, note))) throw new TriggerChangedError("the trigger was changed meanwhile");
}
