import { claimDials, type DueDial, recordDial } from "#core/db/worker-dials.ts";
import { MINUTE, SECOND, sleep } from "#core/lib/clock.ts";
import { randomFraction } from "#core/lib/ids.ts";
import { DIAL_REFUSED, proveServer } from "#core/protocol/dial.ts";
import type { Socket } from "#core/protocol/socket.ts";
import { dialledAuthority } from "#core/services/worker-dial-auth.ts";
import type { HubDeps } from "./deps.ts";
import type { DialledWorker, WorkerSession } from "./session.ts";

/** How often workers that nobody is connected to are looked for. */
const POLL_MS: number = 5 * SECOND;
const DIALS_AT_ONCE = 16;
/** Longer than a connection and its handshake may take: meanwhile no other server dials. */
const CLAIM_MS: number = MINUTE;
const PAUSE_FIRST_MS: number = 5 * SECOND;
const PAUSE_MAX_MS: number = 5 * MINUTE;
/** After a session, so that one that ends at once is not begun again at once. */
const PAUSE_AFTER_SUCCESS_MS: number = 2 * SECOND;
const ERROR_LENGTH_MAX = 500;
const REFUSED_ADVICE =
  "the worker does not know this server: see that its id is the registered one, that the token in its peers file is " +
  "the registration's, and what its log says";

export interface DiallerOptions {
  readonly hasRoom: () => boolean;
  readonly accept: (socket: Socket, dialled: DialledWorker) => WorkerSession;
}

/** Dials workers that are registered with an address, each by one server, with growing pauses while that fails. */
export class Dialler {
  readonly #deps: HubDeps;
  readonly #options: DiallerOptions;
  readonly #stop = new AbortController();
  #kicked = Promise.withResolvers<void>();
  #running: Promise<void> = Promise.resolve();

  constructor(deps: HubDeps, options: DiallerOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  start(): void {
    if (this.#deps.dialWorker) this.#running = this.#run();
  }

  /** A registration has changed: there may be somebody to dial. */
  kick(): void {
    this.#kicked.resolve();
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, log, db } = this.#deps;
    const { signal } = this.#stop;
    const dialling = new Set<Promise<void>>();
    while (!signal.aborted) {
      try {
        const limit = DIALS_AT_ONCE - dialling.size;
        const due =
          limit > 0 && this.#options.hasRoom() ? await claimDials(db, { claimMs: CLAIM_MS, limit }, this.#deps) : [];
        for (const dial of due) {
          const done: Promise<void> = this.#dial(dial).finally(() => dialling.delete(done));
          dialling.add(done);
        }
      } catch (error) {
        log.warn("workers to dial could not be looked up; tried again", { error });
      }
      const over = new AbortController();
      await Promise.race([sleep(clock, POLL_MS, AbortSignal.any([signal, over.signal])), this.#kicked.promise]);
      over.abort();
      this.#kicked = Promise.withResolvers();
    }
    await Promise.all(dialling);
  }

  async #dial(due: DueDial): Promise<void> {
    const { log, random, db } = this.#deps;
    const { workerId, url, failures } = due;
    const error = await this.#connect(due).catch((reason: unknown) => messageOf(reason).slice(0, ERROR_LENGTH_MAX));
    if (this.#stop.signal.aborted) return;
    if (error !== null) log.warn("a worker could not be dialled", { worker: workerId, url, error });
    const pauseMs = Math.min(PAUSE_FIRST_MS * 2 ** failures, PAUSE_MAX_MS) * (0.75 + randomFraction(random) / 2);
    await recordDial(db, due, { error, pauseMs: error === null ? PAUSE_AFTER_SUCCESS_MS : pauseMs }).catch(
      (reason: unknown) => log.warn("how a dial ended was not recorded", { worker: workerId, error: reason }),
    );
  }

  /** Null when the worker is registered, else why the session ended before that. */
  async #connect({ workerId, url, registrations }: DueDial): Promise<string | null> {
    const { dialWorker, clock, random, db } = this.#deps;
    if (!dialWorker) return "this server dials no workers";
    const { signal } = this.#stop;
    const socket = await dialWorker(url, signal);
    const giveUp = () => socket.close(1001, "the server is stopping");
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      const peers = [...new Map(registrations.map(({ peer, tokenHash }) => [peer, { peer, tokenHash }])).values()];
      const context = await proveServer(socket, { id: workerId, registrations: peers }, { clock, random });
      const organizationIds = registrations.map(({ organizationId }) => organizationId);
      const authority = dialledAuthority(db, organizationIds, context);
      const ended = await this.#options.accept(socket, { workerId, authority }).settled;
      return ended === DIAL_REFUSED ? REFUSED_ADVICE : ended;
    } catch (error) {
      socket.close(1008, "this is no worker that was dialled");
      throw error;
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
