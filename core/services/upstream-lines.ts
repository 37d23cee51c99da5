import { CircuitBreaker } from "../domain/circuit-breaker.ts";
import { type Clock, sleep } from "../lib/clock.ts";
import { Semaphore } from "../lib/semaphore.ts";
import type { Logger } from "../ports/logger.ts";
import { OutboundError } from "../ports/outbound.ts";
import type { RemoteUpstream } from "./upstream.ts";
import { isHopeless } from "./upstream-probe.ts";

export interface UpstreamLineDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly upstreamQueriesMax: number;
}

/** The connection to one upstream. */
export interface UpstreamLine {
  /** Half of all: one that is slow never holds up look-ups at the others. */
  readonly places: Semaphore;
  /** Aborted when the upstream is left alone. */
  readonly givenUp: AbortController;
}

/** One failure in between must not let a whole closure be built from source. */
const TRY_PAUSES_MS = [250, 1_000];

/** Whether upstreams answer, as this server has seen. */
export class UpstreamLines {
  readonly #deps: UpstreamLineDeps;
  /** By upstream and address. Those of upstreams that are gone are some bytes each. */
  readonly #lines = new Map<string, { breaker: CircuitBreaker; places: Semaphore; givenUp: AbortController }>();

  constructor(deps: UpstreamLineDeps) {
    this.#deps = deps;
  }

  of(upstream: RemoteUpstream): UpstreamLine {
    return this.#line(upstream);
  }

  /** False while the upstream is left alone because it did not answer. */
  mayBeAsked(upstream: RemoteUpstream): boolean {
    return this.#line(upstream).breaker.mayEnter;
  }

  /**
   * Runs a request to the upstream, up to three times while it fails and may still succeed; a time that ran out is not
   * waited for again. Throws the last failure; `OutboundError` at once while the upstream is left alone because it did
   * not answer.
   */
  async attempt<T>(upstream: RemoteUpstream, request: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const { breaker } = this.#line(upstream);
    for (let tries = 0; ; tries++) {
      if (!breaker.enter()) throw new OutboundError("unreachable", `${upstream.url} has not answered lately`);
      try {
        const result = await request();
        breaker.succeeded();
        return result;
      } catch (error) {
        if (hasFailure(error, "aborted")) breaker.abandoned();
        else this.#failed(upstream, error);
        const pause = TRY_PAUSES_MS[tries];
        const isLast = pause === undefined || hasFailure(error, "timeout");
        if (isLast || !breaker.closed || signal?.aborted) throw error;
        await sleep(this.#deps.clock, pause, signal);
      }
    }
  }

  /** Whoever waits for an answer when an upstream is given up on waits no longer. */
  #failed(upstream: RemoteUpstream, error: unknown): void {
    const line = this.#line(upstream);
    const { log } = this.#deps;
    const opened = line.breaker.failed({ hopeless: isHopeless(error) });
    if (!opened) return log.debug("an upstream failed", { upstream: upstream.url, error });
    log.warn("an upstream does not answer: it is left alone for 30 s", { upstream: upstream.url, error });
    line.givenUp.abort();
    line.givenUp = new AbortController();
  }

  #line({ id, url }: RemoteUpstream) {
    const key = `${id} ${url}`;
    let line = this.#lines.get(key);
    if (!line) {
      const { clock, upstreamQueriesMax } = this.#deps;
      const breaker = new CircuitBreaker(() => clock.monotonic());
      line = { breaker, places: new Semaphore(Math.ceil(upstreamQueriesMax / 2)), givenUp: new AbortController() };
      this.#lines.set(key, line);
    }
    return line;
  }
}

function hasFailure(error: unknown, failure: OutboundError["failure"]): boolean {
  return error instanceof OutboundError && error.failure === failure;
}
