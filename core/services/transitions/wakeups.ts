import type { Notifier } from "../../ports/notifier.ts";

/** Collects, inside a transaction, who has to look again; sent once it is committed. */
export class Wakeups {
  readonly #organizations = new Set<string>();
  readonly #evaluations = new Set<string>();
  readonly #endedAttempts = new Set<string>();

  work(organizationId: string): void {
    this.#organizations.add(organizationId);
  }

  evaluations(ids: Iterable<string>): void {
    for (const id of ids) this.#evaluations.add(id);
  }

  endedAttempts(ids: Iterable<string>): void {
    for (const id of ids) this.#endedAttempts.add(id);
  }

  send(notifier: Notifier): void {
    for (const id of this.#organizations) notifier.notify("work", id);
    for (const id of this.#evaluations) notifier.notify("evaluation", id);
    for (const id of this.#endedAttempts) notifier.notify("abort", id);
  }
}
