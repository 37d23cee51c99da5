import { DomainError } from "../errors.ts";
import { type Clock, SECOND } from "../lib/clock.ts";
import { type BucketShape, TokenBuckets } from "../lib/token-buckets.ts";
import type { ClientAddress } from "./client-address.ts";
import { failureResponse } from "./envelope.ts";

/**
 * What a client may ask for how often. `auth` and `webhook` come on top of `default`; `proto` is of sockets, and not of
 * what is said on them.
 */
export type RateTier = "auth" | "webhook" | "default" | "proto" | "metrics" | "cacheHot" | "cacheBrowse" | "cacheLog";

export const RATE_TIERS: Readonly<Record<RateTier, BucketShape>> = {
  auth: { refillMs: 6 * SECOND, burst: 5 },
  webhook: { refillMs: SECOND, burst: 30 },
  default: { refillMs: 200, burst: 150 },
  proto: { refillMs: 200, burst: 150 },
  metrics: { refillMs: SECOND / 6, burst: 5 },
  // A system of 5 000 paths is 10 000 requests, and a house full of hosts has one address.
  cacheHot: { refillMs: 2, burst: 20_000 },
  cacheBrowse: { refillMs: 333, burst: 180 },
  cacheLog: { refillMs: 333, burst: 900 },
};

/** What keeps one client's password guesses, or a broken scraper, from others, wherever they come from. */
const LIMITED_WITHOUT_CLIENT: ReadonlySet<RateTier> = new Set<RateTier>(["auth", "webhook", "metrics"]);

/** In how many seconds to come again. */
const RETRY_AFTER = "retry-after";

/** The limits of one process: several servers behind one proxy each grant all of it. */
export class RateLimits {
  readonly #tiers: Readonly<Record<RateTier, TokenBuckets>>;

  constructor(clock: Clock) {
    const buckets = Object.entries(RATE_TIERS).map(([tier, shape]) => [tier, new TokenBuckets(clock, shape)]);
    this.#tiers = Object.fromEntries(buckets) as Record<RateTier, TokenBuckets>;
  }

  /**
   * The milliseconds until the client may have what it asks for, 0 for now. A wait that is longer than `patienceMs`
   * counts for nothing: the client is to be refused.
   *
   * A trusted proxy that names no client asks for itself, or is a program on its machine. It could name any client, so
   * a limit would keep out nobody who wants to pass it: there is none, but in the tiers where a proxy that forgets to
   * name its clients would undo the limit for all of them.
   */
  take(
    tier: RateTier,
    { network, trusted }: Pick<ClientAddress, "network" | "trusted">,
    patienceMs: number = 0,
  ): number {
    if (trusted && !LIMITED_WITHOUT_CLIENT.has(tier)) return 0;
    return this.#tiers[tier].take(network, patienceMs);
  }
}

export class TooManyRequestsError extends DomainError {
  readonly retryAfterSeconds: number;

  constructor(waitMs: number) {
    const seconds = Math.max(1, Math.ceil(waitMs / SECOND));
    const when = seconds === 1 ? "1 second" : `${seconds} seconds`;
    super("too_many_requests", `Too many requests from your address: try again in ${when}`);
    this.retryAfterSeconds = seconds;
  }
}

/** The headers that a refusal has besides those of every failure. */
export function refusalHeaders(error: DomainError): Record<string, string> {
  return error instanceof TooManyRequestsError ? { [RETRY_AFTER]: String(error.retryAfterSeconds) } : {};
}

/** A refusal as a whole answer, for where no other headers belong to it. */
export function tooManyRequests(waitMs: number): Response {
  const error = new TooManyRequestsError(waitMs);
  return failureResponse(error, { "cache-control": "no-store", ...refusalHeaders(error) });
}
