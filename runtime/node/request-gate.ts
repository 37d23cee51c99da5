import type { IncomingMessage, ServerResponse } from "node:http";
import { classifyCacheTarget } from "#core/http/cache-class.ts";
import type { ClientAddress } from "#core/http/client-address.ts";
import { failure } from "#core/http/envelope.ts";
import { type RateLimits, refusalHeaders, TooManyRequestsError } from "#core/http/rate-limits.ts";
import { API_HEADERS } from "#core/http/security-headers.ts";
import { type Clock, SECOND } from "#core/lib/clock.ts";

export interface RequestGateDeps {
  readonly clock: Clock;
  readonly rates: Pick<RateLimits, "take">;
  readonly clientOf: (request: IncomingMessage) => ClientAddress;
}

/** Nix gives up on a substituter after five refusals within four seconds; a client that waits loses nothing. */
const PATIENCE_MS: number = 10 * SECOND;
/** Each holds a connection, and some kilobytes. */
const WAITING_MAX = 1_000;

/**
 * Holds requests to caches to their pace: one that comes early waits for its turn, and is refused with 429 when that is
 * far away or when too many wait. Requests to anything else pass.
 */
export class RequestGate {
  readonly #deps: RequestGateDeps;
  #waiting = 0;

  constructor(deps: RequestGateDeps) {
    this.#deps = deps;
  }

  /** Whether to answer the request now. If not, it was refused, or `answer` is called when its turn has come. */
  mayPass(request: IncomingMessage, response: ServerResponse, answer: () => void): boolean {
    const found = classifyCacheTarget(request.url ?? "");
    if (!found) return true;
    const patienceMs = this.#waiting < WAITING_MAX ? PATIENCE_MS : 0;
    const waitMs = this.#deps.rates.take(found.tier, this.#deps.clientOf(request), patienceMs);
    if (waitMs === 0) return true;
    if (waitMs > patienceMs) refuse(request, response, waitMs);
    else this.#wait(response, waitMs, answer);
    return false;
  }

  #wait(response: ServerResponse, waitMs: number, answer: () => void): void {
    this.#waiting++;
    const cancel = this.#deps.clock.schedule(waitMs, () => {
      response.off("close", leave);
      this.#waiting--;
      answer();
    });
    const leave = () => {
      this.#waiting--;
      cancel();
    };
    response.once("close", leave);
  }
}

function refuse({ method }: IncomingMessage, response: ServerResponse, waitMs: number): void {
  const error = new TooManyRequestsError(waitMs);
  const body = JSON.stringify(failure(error));
  response.writeHead(429, {
    ...API_HEADERS,
    "cache-control": "no-store",
    "content-type": "application/json",
    "content-length": body.length,
    // What a refused upload goes on to send is not read.
    ...(method !== "GET" && method !== "HEAD" && { connection: "close" }),
    ...refusalHeaders(error),
  });
  response.end(method === "HEAD" ? "" : body);
}
