import type { LeasedAttempt } from "./leased-attempts.ts";

/** The attempts that a session's worker holds, by id, and of which of them it has said how they ended. */
export class HeldAttempts extends Map<string, LeasedAttempt> {
  readonly #reported = new Set<string>();

  /** Its result has come, and may wait to be recorded; one that was refused counts so, too, until it comes again. */
  reported(attemptId: string): void {
    if (this.has(attemptId)) this.#reported.add(attemptId);
  }

  override delete(attemptId: string): boolean {
    this.#reported.delete(attemptId);
    return super.delete(attemptId);
  }

  /** Builds that the worker has yet to do, or to finish. */
  get unreportedBuilds(): number {
    let count = 0;
    for (const { id, kind } of this.values()) if (kind === "build" && !this.#reported.has(id)) count++;
    return count;
  }

  countByOrganization(): Readonly<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const { organizationId: id } of this.values()) counts[id] = (counts[id] ?? 0) + 1;
    return counts;
  }
}
