import type { Context, MiddlewareHandler } from "hono";
import type { IpNetwork } from "#core/domain/ip-address.ts";
import { findClient } from "#core/http/client-address.ts";
import type { AppEnv } from "../env.ts";

export interface ClientIpOptions {
  /** The other end of the connection, as only the runtime knows it; null for a Unix socket. */
  readonly peerAddress: (c: Context) => string | null;
  readonly trustedProxies: readonly IpNetwork[];
}

export function clientIp({ peerAddress, trustedProxies }: ClientIpOptions): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const client = findClient(peerAddress(c), c.req.header("x-forwarded-for") ?? null, trustedProxies);
    c.set("client", client);
    c.set("clientIp", client.address);
    await next();
  };
}
