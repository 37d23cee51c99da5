import type { MiddlewareHandler } from "hono";
import { type RateLimits, type RateTier, TooManyRequestsError } from "#core/http/rate-limits.ts";
import type { AppEnv } from "../env.ts";

export interface RateLimitOptions {
  /** Absent: whoever runs this application limits requests elsewhere, or not at all. */
  readonly rates?: Pick<RateLimits, "take"> | undefined;
}

/** Refuses with 429 what comes too often from one client. To be used after `clientIp`. */
export function rateLimit({ rates }: RateLimitOptions, tier: RateTier): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const waitMs = rates?.take(tier, c.get("client")) ?? 0;
    if (waitMs > 0) throw new TooManyRequestsError(waitMs);
    await next();
  };
}

/** Signing out helps nobody guess, and who polls for a device's sign-in is told to come every three seconds. */
const WITHOUT_GUESSES = /^\/api\/v1\/auth\/(?:logout|cli\/poll)$/;

/** For `/auth`: what could be tried over and over to find a password or a code. */
export function guessLimit(options: RateLimitOptions): MiddlewareHandler<AppEnv> {
  const limit = rateLimit(options, "auth");
  return async (c, next) => (WITHOUT_GUESSES.test(c.req.path) ? await next() : await limit(c, next));
}

/** For what asks who is signed in for the password once more: a session that was stolen guesses no faster. */
export function passwordLimit(options: RateLimitOptions): MiddlewareHandler<AppEnv> {
  const limit = rateLimit(options, "auth");
  return async (c, next) => (c.req.method === "GET" || c.req.method === "HEAD" ? await next() : await limit(c, next));
}
