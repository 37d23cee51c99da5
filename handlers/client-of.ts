import type { Context } from "hono";
import type { ActorClient } from "#core/domain/actor.ts";
import type { AppEnv } from "./env.ts";

/** Where a request comes from, as sessions and the audit log show it. */
export function clientOf(c: Context<AppEnv>): ActorClient {
  return { address: c.get("clientIp"), userAgent: c.req.header("user-agent") ?? null };
}

/** Whose share a request counts towards: who is signed in, wherever they are; else an address, or a network of IPv6. */
export function shareHolderOf(c: Context<AppEnv>): string {
  return c.get("actor").user?.id ?? c.get("client").network;
}
