import type { Context, Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { DomainError } from "#core/errors.ts";
import { ERROR_STATUS, failure, INTERNAL_ERROR, NOT_FOUND } from "#core/http/envelope.ts";
import { refusalHeaders } from "#core/http/rate-limits.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { AppEnv } from "./env.ts";
import { allowedMethods } from "./methods.ts";

/** Every failure as the envelope: what the domain refused with its own words, everything else with none. */
export function errorResponder(log: Logger): (error: Error, c: Context<AppEnv>) => Response {
  return (error, c) => {
    if (error instanceof DomainError) {
      if (error.cause !== undefined) log.info("request refused", { error, ...describe(c) });
      return refuse(c, error, refusalHeaders(error));
    }
    if (error instanceof HTTPException && error.status < 500) {
      return refuse(c, new DomainError("bad_request", error.message || "The request is malformed"));
    }
    log.error("request failed", { error, ...describe(c) });
    return refuse(c, INTERNAL_ERROR);
  };
}

/** The answer where no route is, or none with this method. */
export function notFoundResponder(app: Hono<AppEnv>): (c: Context<AppEnv>) => Response {
  return (c) => {
    const { method, path } = c.req;
    const allowed = allowedMethods(app.routes, path);
    // A route that says itself that nothing is there has this method.
    if (allowed.length === 0 || allowed.includes(method)) return refuse(c, NOT_FOUND);
    const allow = allowed.join(", ");
    const message = `This address is not answered to the method ${method.slice(0, 20)}: use ${allowed.join(" or ")}`;
    return refuse(c, new DomainError("method_not_allowed", message), { allow });
  };
}

/** With the headers that the middleware has set for every answer. A failure is private: no proxy keeps it. */
function refuse(c: Context<AppEnv>, error: DomainError, headers: Readonly<Record<string, string>> = {}): Response {
  const status: ContentfulStatusCode = ERROR_STATUS[error.code];
  return c.json(failure(error), status, {
    "cache-control": "no-store",
    // RFC 9110 section 15.5.2: a 401 names the scheme to use.
    ...(status === 401 && { "www-authenticate": "Bearer" }),
    ...headers,
  });
}

function describe(c: Context<AppEnv>): Record<string, unknown> {
  return { requestId: c.get("requestId"), method: c.req.method, path: c.req.path };
}
