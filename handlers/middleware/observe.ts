import type { MiddlewareHandler } from "hono";
import { matchedRoutes } from "hono/route";
import type { Clock } from "#core/lib/clock.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { AppEnv } from "../env.ts";

/** An answer, as its headers left: a long body goes on. */
export interface AnsweredRequest {
  readonly method: string;
  /** The route's pattern, never the address that was asked for. */
  readonly route: string;
  readonly status: number;
  readonly seconds: number;
}

export interface ObserveOptions {
  readonly onAnswered?: ((answered: AnsweredRequest) => void) | undefined;
}

/** What no route answers. */
const NO_ROUTE = "none";

/** Tells of each answer: to whoever counts, and to the log at `debug`, without the query, which may hold tokens. */
export function observe(
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
  { onAnswered }: ObserveOptions,
): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const startedAt = clock.monotonic();
    await next();
    const milliseconds = clock.monotonic() - startedAt;
    const route = matchedRoutes(c).findLast(({ method }) => method !== "ALL")?.path ?? NO_ROUTE;
    const { method, path } = c.req;
    const { status } = c.res;
    onAnswered?.({ method, route, status, seconds: milliseconds / 1_000 });
    log.debug("request answered", {
      method,
      path,
      status,
      ms: Math.round(milliseconds),
      requestId: c.get("requestId"),
    });
  };
}
