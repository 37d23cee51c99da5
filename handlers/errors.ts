import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import { DomainError } from "#core/errors.ts";
import { failureResponse, INTERNAL_ERROR, NOT_FOUND } from "#core/http/envelope.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { AppEnv } from "./env.ts";

/** Every failure as the envelope: what the domain refused with its own words, everything else with none. */
export function errorResponder(log: Logger): (error: Error, c: Context<AppEnv>) => Response {
  return (error, c) => {
    if (error instanceof DomainError) {
      if (error.cause !== undefined) log.info("request refused", { error, ...describe(c) });
      return failureResponse(error, echoed(c));
    }
    if (error instanceof HTTPException && error.status < 500) {
      return failureResponse(new DomainError("bad_request", error.message || "The request is malformed"), echoed(c));
    }
    log.error("request failed", { error, ...describe(c) });
    return failureResponse(INTERNAL_ERROR, echoed(c));
  };
}

/** The answer where no route is. */
export function notFoundResponder(c: Context<AppEnv>): Response {
  return failureResponse(NOT_FOUND, echoed(c));
}

function describe(c: Context<AppEnv>): Record<string, unknown> {
  return { requestId: c.get("requestId"), method: c.req.method, path: c.req.path };
}

/** A failure is private: no proxy keeps it. */
function echoed(c: Context<AppEnv>): Record<string, string> {
  const requestId = c.get("requestId");
  return { "cache-control": "no-store", ...(requestId ? { "x-request-id": requestId } : {}) };
}
