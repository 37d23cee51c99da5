import type { Candidate } from "./discover.ts";

export interface InstantiationWork {
  readonly candidate: Candidate;
  /** It was at work when an evaluator crashed, perhaps by what came before it. */
  readonly isAlone: boolean;
}

/** What an evaluator says (`instantiationExpression` tells what it may hold). */
export type InstantiationReport = Readonly<Record<string, unknown>>;

export interface InstantiationAnswer {
  readonly work: InstantiationWork;
  readonly report: InstantiationReport;
}

/** What one evaluator was given, and how far it came. */
export class InstantiationGroup {
  readonly work: readonly InstantiationWork[];
  readonly #reports = new Map<number, InstantiationReport>();
  readonly #finished = new Set<InstantiationWork>();
  #current: number | null = null;
  /** An attribute was reached. */
  hasBegun = false;

  constructor(work: readonly InstantiationWork[]) {
    this.work = work;
  }

  /** The attribute that is being evaluated. */
  get current(): InstantiationWork | null {
    return this.#current === null ? null : (this.work[this.#current] ?? null);
  }

  read(report: InstantiationReport): void {
    if (typeof report.begin === "number") {
      this.#current = report.begin;
      this.hasBegun = true;
    }
    const work = typeof report.item === "number" ? this.work[report.item] : undefined;
    if (work === undefined) return;
    this.#reports.set(report.item as number, report);
    this.#finished.add(work);
    this.#current = null;
  }

  finish(work: InstantiationWork): void {
    this.#finished.add(work);
  }

  reopen(work: InstantiationWork): void {
    this.#finished.delete(work);
  }

  /** Those that were not taken before. */
  answers(): InstantiationAnswer[] {
    return [...this.#reports].map(([index, report]) => ({ work: this.work[index] as InstantiationWork, report }));
  }

  /** It has been passed on. */
  take({ work }: InstantiationAnswer): void {
    this.#reports.delete(this.work.indexOf(work));
  }

  /** Not answered, or reopened. */
  unfinished(): Candidate[] {
    return this.work.filter((work) => !this.#finished.has(work)).map(({ candidate }) => candidate);
  }
}
