import type { Context } from "hono";
import type { ActorClient } from "#core/domain/actor.ts";
import type { AppEnv } from "./env.ts";

/** Where a request comes from, as sessions and the audit log show it. */
export function clientOf(c: Context<AppEnv>): ActorClient {
  return { address: c.get("clientIp"), userAgent: c.req.header("user-agent") ?? null };
}
