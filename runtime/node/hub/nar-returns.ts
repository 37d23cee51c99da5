import { listNarsWanted, type WantedNar } from "#core/db/nar-repairs.ts";
import { DomainError } from "#core/errors.ts";
import { toHex } from "#core/lib/bytes.ts";
import { HOUR, MINUTE } from "#core/lib/clock.ts";
import { timely } from "#core/lib/in-time.ts";
import { storedPath } from "#core/services/cache-path.ts";
import { sha256Of } from "#core/services/nar.ts";
import { repairFromWorker } from "#core/services/nar-repair.ts";
import type { HubDeps } from "./deps.ts";
import { RepeatedTask } from "./repeated-task.ts";
import type { WorkerSession } from "./session.ts";

const PAGE = 200;
/** A worker that does not have a path may have built it since. */
const ASK_AGAIN_MS = HOUR;
/** What one session is remembered to have been asked for; what is beyond is asked for again. */
const ASKED_MAX = 10_000;
/** The worker may have to start its daemon, and wait for a place there. */
const ANSWER_MS = MINUTE;
const PIECE_MS = MINUTE;

/**
 * Asks the workers of this server for NARs that are damaged and that neither the store nor an upstream gave back. Only
 * workers of an organization that the path belongs to are asked, one after the other, and each once in an hour.
 */
export class NarReturns {
  readonly #deps: HubDeps;
  readonly #sessions: () => Iterable<WorkerSession>;
  /** When a session was asked for a NAR, by the digits of its hash. */
  #asked = new WeakMap<WorkerSession, Map<string, number>>();
  /** Those that did not answer, until when they are left alone: one that is stuck must not hold up the others. */
  readonly #resting = new WeakMap<WorkerSession, number>();
  readonly #task = new RepeatedTask(() => this.#askAll());
  readonly #ended = new AbortController();

  constructor(deps: HubDeps, sessions: () => Iterable<WorkerSession>) {
    this.#deps = deps;
    this.#sessions = sessions;
  }

  /** Looks what is damaged. `everything`: also what was asked for before. */
  look({ everything = false }: { readonly everything?: boolean } = {}): void {
    if (everything) this.#asked = new WeakMap();
    this.#task.want();
  }

  /** What is under way ends with the sessions. */
  close(): void {
    this.#ended.abort();
  }

  async #askAll(): Promise<void> {
    try {
      for (let after = 0; !this.#ended.signal.aborted; ) {
        const organizationIds = [...new Set(this.#able().flatMap((session) => session.organizationIds))];
        if (organizationIds.length === 0) return;
        const page = await listNarsWanted(this.#deps.db, organizationIds, { after, limit: PAGE });
        for (const [, wanted] of Map.groupBy(page, ({ id }) => id)) await this.#askFor(wanted);
        const last = page.at(-1);
        if (!last || page.length < PAGE) return;
        // A NAR under more names than a page holds is asked for under those.
        after = page[0]?.id === last.id ? last.id : last.id - 1;
      }
    } catch (error) {
      this.#deps.log.warn("workers could not be asked for lost NARs; it is tried again", { error });
    }
  }

  #able(): WorkerSession[] {
    const now = this.#deps.clock.monotonic();
    return [...this.#sessions()].filter(
      (session) =>
        session.jobs?.description.returns_nars === true &&
        !session.connection.closed &&
        now >= (this.#resting.get(session) ?? 0),
    );
  }

  /** All of these are one NAR under several names. */
  async #askFor(names: readonly WantedNar[]): Promise<void> {
    for (const wanted of names) {
      for (const session of this.#able()) {
        const organization = wanted.organization_ids.find((id) => session.organizationIds.includes(id));
        if (organization === undefined || this.#ended.signal.aborted) continue;
        if (!this.#isNews(session, `${toHex(wanted.nar_hash)} ${wanted.store_path}`)) continue;
        if (await this.#ask(session, organization, wanted)) return;
      }
    }
  }

  #isNews(session: WorkerSession, subject: string): boolean {
    const now = this.#deps.clock.monotonic();
    const asked = this.#asked.get(session) ?? new Map<string, number>();
    this.#asked.set(session, asked);
    if (now - (asked.get(subject) ?? Number.NEGATIVE_INFINITY) < ASK_AGAIN_MS) return false;
    if (asked.size >= ASKED_MAX) asked.clear();
    asked.set(subject, now);
    return true;
  }

  /** True when the NAR is there again. */
  async #ask(session: WorkerSession, organization: string, wanted: WantedNar): Promise<boolean> {
    const { clock, log } = this.#deps;
    const nar = { narHash: sha256Of(wanted.nar_hash), narSize: wanted.nar_size };
    const path = storedPath(wanted.store_path);
    const question = { organization, path, nar_hash: toHex(wanted.nar_hash), nar_size: wanted.nar_size };
    const answer = await session.wants.ask(question, ANSWER_MS);
    const fields = { path, worker: session.workerId };
    if ("absent" in answer) {
      if (answer.silent) this.#resting.set(session, clock.monotonic() + ASK_AGAIN_MS);
      log.debug("a worker does not have a lost NAR", { ...fields, reason: answer.absent });
      return false;
    }
    const { compression } = answer;
    const body = timely(clock, PIECE_MS, "a piece of the NAR", answer.body);
    try {
      // The organization may have shut the worker out since it was asked.
      if (!session.organizationIds.includes(organization)) return false;
      const isRepaired = await repairFromWorker(this.#deps, nar, { compression, body });
      if (isRepaired) log.info("a damaged NAR was brought back by a worker and is served again", fields);
      return true;
    } catch (error) {
      const reason = error instanceof DomainError ? { reason: error.message } : { error };
      log.warn("a worker did not bring back a lost NAR", { ...fields, ...reason });
      return false;
    } finally {
      await answer.body[Symbol.asyncIterator]().return?.();
    }
  }
}
