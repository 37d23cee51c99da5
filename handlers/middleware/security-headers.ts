import type { MiddlewareHandler } from "hono";
import { API_HEADERS } from "#core/http/security-headers.ts";
import type { AppEnv } from "../env.ts";

/** What a route sets itself counts; it must answer through its context (`c.json`, `c.body`). */
export const securityHeaders: MiddlewareHandler<AppEnv> = async (c, next) => {
  for (const [name, value] of Object.entries(API_HEADERS)) c.header(name, value);
  await next();
};
