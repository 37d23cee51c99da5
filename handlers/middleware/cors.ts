import type { MiddlewareHandler } from "hono";
import { isOwnPage, type PageOrigins } from "#core/http/page-origin.ts";
import type { AppEnv } from "../env.ts";

const METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE";
const REQUEST_HEADERS = "Authorization, Accept, Content-Type";
/** What a script may read besides the headers that it always may. */
const ANSWER_HEADERS = "X-Request-Id, Retry-After, Location, Upload-Offset";
/** For so long a browser does not ask again. */
const MAX_AGE_SECONDS = "600";

/**
 * Lets scripts of our own pages read answers, with the visitor's cookie; those of other pages get what any page gets,
 * which is nothing they could read. Questions before a request (preflights) are answered here.
 */
export function cors(origins: PageOrigins): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const origin = c.req.header("origin");
    // Said of every answer: one that was made without an origin must not be kept for a page.
    c.header("vary", "Origin");
    const isOurs = origin !== undefined && isOwnPage(origin, origins);
    if (isOurs) {
      c.header("access-control-allow-origin", origin);
      c.header("access-control-allow-credentials", "true");
      c.header("access-control-expose-headers", ANSWER_HEADERS);
    }
    if (c.req.method !== "OPTIONS" || c.req.header("access-control-request-method") === undefined) return await next();
    if (!isOurs) return c.body(null, 204);
    return c.body(null, 204, {
      "access-control-allow-methods": METHODS,
      "access-control-allow-headers": REQUEST_HEADERS,
      "access-control-max-age": MAX_AGE_SECONDS,
    });
  };
}
