import { access } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { parseStorePath, type StorePath } from "#core/nix/store-path.ts";
import { type AttributePath, attributeKey } from "./attribute-order.ts";
import { type AttributeError, type Candidate, limitAttributes } from "./discover.ts";
import { EvaluationError } from "./errors.ts";
import type { EvaluatorMessage } from "./evaluator-stderr.ts";
import { type InstantiatedItem, instantiationExpression, literalBytes } from "./expressions.ts";
import { GroupSize } from "./group-size.ts";
import { DEATHS_WITH_WORDS_MAX, describeOther } from "./instantiation-answer.ts";
import { InstantiationGroup, type InstantiationReport, type InstantiationWork } from "./instantiation-group.ts";
import type { EvaluatorEnd, NixEvaluator } from "./nix-eval.ts";

/** What one evaluator found. */
export interface InstantiatedGroup {
  readonly found: readonly { readonly attribute: AttributePath; readonly drvPath: StorePath }[];
  readonly errors: readonly AttributeError[];
}

export interface InstantiateOptions {
  readonly excludes: readonly AttributePath[];
  /** Attributes that were answered before. */
  readonly answered: readonly AttributePath[];
  readonly storeRoot: string;
  readonly attributesMax: number;
  readonly deadline: number;
  /** Evaluators at a time. */
  readonly evaluatorsMax: number;
  onMessage(message: EvaluatorMessage, attribute: AttributePath | null): void;
}

const ITEMS_BYTES_MAX = 100_000;
const DEATHS_MAX = 512;
/** What an evaluator has found waits so long for more before it is passed on: builds begin while others evaluate. */
const EARLY_MS = 300;
/** Newer versions of Nix write derivations behind the evaluation's back. */
const WRITTEN_MS_MAX = 5_000;
const WRITTEN_POLL_MS = 10;

/**
 * Turns attributes into derivations, a group for each evaluator, as they come. An attribute that fails, by whatever way
 * of dying, is an error of its own and the others are found. Throws `EvaluationError` when the flake itself fails, and
 * for time, abort and limits.
 */
export async function* instantiate(
  evaluator: NixEvaluator,
  candidates: readonly Candidate[],
  options: InstantiateOptions,
): AsyncGenerator<InstantiatedGroup> {
  const stop = new AbortController();
  const run = new Instantiation(evaluator, candidates, options, stop.signal);
  const running = new Set<Promise<void>>();
  const done: InstantiatedGroup[] = [];
  let failure: { error: unknown } | null = null;
  try {
    for (;;) {
      while (!failure && running.size < options.evaluatorsMax && run.hasWork) {
        const task: Promise<void> = run
          .runGroup()
          .then(
            (group) => void done.push(group),
            (error: unknown) => {
              failure ??= { error };
            },
          )
          .finally(() => running.delete(task));
        running.add(task);
      }
      done.push(...run.takeEarly());
      for (let group = done.shift(); group; group = done.shift()) yield group;
      if (failure) throw (failure as { error: unknown }).error;
      // While a group was taken evaluators went on.
      if (done.length > 0 || run.hasEarly) continue;
      if (running.size > 0) await Promise.race([...running, run.early]);
      else if (!run.hasWork) return;
    }
  } finally {
    stop.abort();
    await Promise.all(running);
  }
}

class Instantiation {
  readonly #evaluator: NixEvaluator;
  readonly #options: InstantiateOptions;
  #pending: InstantiationWork[];
  readonly #seen: Set<string>;
  readonly #excluded: ReadonlySet<string>;
  readonly #signal: AbortSignal;
  #deaths = 0;
  readonly #groupSize = new GroupSize();
  #found: InstantiatedGroup[] = [];
  #early = Promise.withResolvers<void>();

  constructor(
    evaluator: NixEvaluator,
    candidates: readonly Candidate[],
    options: InstantiateOptions,
    signal: AbortSignal,
  ) {
    this.#signal = signal;
    this.#evaluator = evaluator;
    this.#options = options;
    this.#pending = candidates.map((candidate) => ({ candidate, isAlone: false }));
    this.#seen = new Set([...candidates.map(({ attribute }) => attribute), ...options.answered].map(attributeKey));
    this.#excluded = new Set(options.excludes.map(attributeKey));
  }

  get hasWork(): boolean {
    return this.#pending.length > 0;
  }

  /** Resolves when an evaluator at work has found something. */
  get early(): Promise<void> {
    return this.#early.promise;
  }

  get hasEarly(): boolean {
    return this.#found.length > 0;
  }

  takeEarly(): InstantiatedGroup[] {
    this.#early = Promise.withResolvers();
    return this.#found.splice(0);
  }

  async runGroup(): Promise<InstantiatedGroup> {
    const group = new InstantiationGroup(this.#takeWork());
    if (this.#deaths > DEATHS_MAX) {
      const error = `it was not evaluated: more than ${DEATHS_MAX} attributes ended the evaluator`;
      return { found: [], errors: group.work.map(({ candidate }) => ({ attribute: candidate.attribute, error })) };
    }
    const startedAt = performance.now();
    const end = await this.#run(group);
    this.#groupSize.measured(group.work.length, end.ok ? performance.now() - startedAt : null);
    const result = await this.#collect(group, end);
    if (!end.ok) this.#blame(group, end, result.errors);
    else refuseUnanswered(group, result.errors);
    const unfinished = group.unfinished().map((candidate) => ({ candidate, isAlone: false }));
    this.#pending = [...unfinished, ...this.#pending];
    return result;
  }

  /** As many as fit, in order; one that crashed an evaluator by itself. */
  #takeWork(): InstantiationWork[] {
    const taken: InstantiationWork[] = [];
    let bytes = 0;
    for (let next = this.#pending[0]; next !== undefined; next = this.#pending[0]) {
      bytes += literalBytes(itemOf(next.candidate)) + 2;
      const isFull = taken.length === this.#groupSize.max || bytes > ITEMS_BYTES_MAX || next.isAlone;
      if (taken.length > 0 && isFull) break;
      taken.push(next);
      this.#pending.shift();
      if (next.isAlone) break;
    }
    return taken;
  }

  async #run(group: InstantiationGroup): Promise<EvaluatorEnd> {
    const { deadline, onMessage } = this.#options;
    const items = group.work.map(({ candidate }) => itemOf(candidate));
    const quiet = this.#deaths >= DEATHS_WITH_WORDS_MAX;
    let timer: NodeJS.Timeout | undefined;
    let passing: Promise<void> = Promise.resolve();
    const passOn = () => {
      timer = undefined;
      passing = passing.then(() => this.#passOn(group));
    };
    try {
      return await this.#evaluator.run({
        expression: (mark) => instantiationExpression(mark, items, { quiet }),
        deadline,
        signal: this.#signal,
        // Who crashes one that has done nothing else is guilty.
        fresh: group.work.some(({ isAlone }) => isAlone),
        onReport: (report) => {
          group.read(report);
          if (typeof report.drvPath === "string") timer ??= setTimeout(passOn, EARLY_MS);
        },
        onMessage: (message) => onMessage(message, group.current?.candidate.attribute ?? null),
      });
    } finally {
      clearTimeout(timer);
      await passing;
    }
  }

  /** Derivations that are there; everything else of the group comes at its end. */
  async #passOn(group: InstantiationGroup): Promise<void> {
    const found: InstantiatedGroup["found"][number][] = [];
    for (const answer of group.answers()) {
      const drvPath = derivationOf(answer.report);
      if (drvPath === null || !(await this.#exists(drvPath))) continue;
      group.take(answer);
      found.push({ attribute: answer.work.candidate.attribute, drvPath });
    }
    if (found.length === 0) return;
    this.#found.push({ found, errors: [] });
    this.#early.resolve();
  }

  /** The attribute at work when the evaluator died is guilty, unless a crash may be the sum of several. */
  #blame(group: InstantiationGroup, end: EvaluatorEnd & { ok: false }, errors: AttributeError[]): void {
    const guilty = group.current;
    if (guilty === null) {
      // It died before the first attribute, or after the last one, when nothing is lost.
      if (group.hasBegun) return;
      throw new EvaluationError("flake_broken", end.message);
    }
    group.finish(guilty);
    this.#deaths++;
    const mayBeSum = end.reason === "crashed" || end.reason === "memory";
    if (mayBeSum && !guilty.isAlone && group.work.length > 1) {
      this.#pending.unshift({ candidate: guilty.candidate, isAlone: true });
    } else if (!guilty.candidate.isExcluded) {
      errors.push({ attribute: guilty.candidate.attribute, error: end.message });
    }
  }

  async #collect(
    group: InstantiationGroup,
    end: EvaluatorEnd,
  ): Promise<{ found: { attribute: AttributePath; drvPath: StorePath }[]; errors: AttributeError[] }> {
    const found: { attribute: AttributePath; drvPath: StorePath }[] = [];
    const errors: AttributeError[] = [];
    const below: InstantiationWork[] = [];
    for (const { work, report } of group.answers()) {
      const { candidate } = work;
      const { attribute } = candidate;
      if (Array.isArray(report.names) && report.kind === "set") {
        below.push(...this.#listBelow(candidate, report.names as string[]));
      } else if (typeof report.drvPath === "string") {
        const drvPath = derivationOf(report);
        if (drvPath !== null && (await this.#isWritten(drvPath, end))) found.push({ attribute, drvPath });
        // An evaluator that died may not have got so far.
        else if (drvPath !== null && !end.ok) group.reopen(work);
        else
          errors.push({
            attribute,
            error: `its drvPath ${JSON.stringify(report.drvPath.slice(0, 300))} is no derivation in the store`,
          });
      } else {
        const error = describeOther(candidate, report);
        if (error !== null) errors.push({ attribute, error });
      }
    }
    this.#pending = [...below, ...this.#pending];
    return { found, errors };
  }

  #listBelow(candidate: Candidate, names: readonly string[]): InstantiationWork[] {
    const below: InstantiationWork[] = [];
    for (const name of names) {
      const attribute = [...candidate.attribute, name];
      const key = attributeKey(attribute);
      const extraLevels = candidate.extraLevels - 1;
      const isExcluded = this.#excluded.has(key);
      if (this.#seen.has(key) || (isExcluded && extraLevels === 0)) continue;
      this.#seen.add(key);
      below.push({ candidate: { attribute, extraLevels, isExplicit: false, isExcluded }, isAlone: false });
    }
    limitAttributes(this.#seen.size, this.#options.attributesMax);
    return below;
  }

  async #isWritten(drvPath: StorePath, { ok }: EvaluatorEnd): Promise<boolean> {
    const deadline = performance.now() + (ok ? WRITTEN_MS_MAX : 0);
    for (;;) {
      if (await this.#exists(drvPath)) return true;
      if (performance.now() >= deadline) return false;
      await sleep(WRITTEN_POLL_MS);
    }
  }

  async #exists(drvPath: StorePath): Promise<boolean> {
    return await access(`${this.#options.storeRoot}${drvPath}`).then(
      () => true,
      () => false,
    );
  }
}

/** Null for an answer that is none, or names something else. */
function derivationOf({ drvPath }: InstantiationReport): StorePath | null {
  const path = typeof drvPath === "string" ? parseStorePath(drvPath) : null;
  return path?.endsWith(".drv") ? path : null;
}

function refuseUnanswered(group: InstantiationGroup, errors: AttributeError[]): void {
  for (const { attribute } of group.unfinished()) {
    errors.push({ attribute, error: "the evaluator gave no answer that can be read" });
  }
  for (const work of group.work) group.finish(work);
}

function itemOf({ attribute, extraLevels, isExcluded }: Candidate): InstantiatedItem {
  return { path: attribute, wantsNames: extraLevels > 0, kindOnly: isExcluded };
}
