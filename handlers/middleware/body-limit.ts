import type { MiddlewareHandler } from "hono";
import { payloadTooLarge } from "#core/http/json-body.ts";
import type { AppEnv } from "../env.ts";

/**
 * Refuses what announces itself as too large before anything else is done for it. Bodies that do not announce their
 * size meet the same limit while they are read (`readJson`). Of several limits on a route's way the first one counts.
 */
export function bodyLimit(bytesMax: number): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    if (c.get("bodyBytesMax") !== undefined) return await next();
    const length = c.req.header("content-length");
    if (length !== undefined && Number(length) > bytesMax) throw payloadTooLarge(bytesMax);
    c.set("bodyBytesMax", bytesMax);
    await next();
  };
}
