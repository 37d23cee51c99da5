import type { MiddlewareHandler } from "hono";
import { type Actor, ANONYMOUS } from "#core/domain/actor.ts";
import { DomainError } from "#core/errors.ts";
import { apiToken, isSameOriginWrite } from "#core/http/credentials.ts";
import { authenticate } from "#core/services/authenticate.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { AppEnv } from "../env.ts";

/** Finds out who asks. Refused credentials make an anonymous actor that knows why, should a user be needed. */
export function actor(deps: Pick<ServiceDeps, "db" | "clock" | "settings">): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    if (!isSameOriginWrite(c.req.raw, deps.settings.serveUrl)) {
      throw new DomainError("forbidden", "The request comes from a page of another origin: nothing was changed");
    }
    const token = apiToken(c.req.raw.headers);
    c.set("actor", token === null ? ANONYMOUS : await resolve(deps, token, c.get("clientIp")));
    // Answers depend on who asks; a route that knows better says so.
    c.header("cache-control", "no-store");
    await next();
  };
}

async function resolve(
  deps: Pick<ServiceDeps, "db" | "clock" | "settings">,
  token: string,
  clientAddress: string,
): Promise<Actor> {
  try {
    return await authenticate(deps, { token, clientAddress });
  } catch (refusal) {
    if (refusal instanceof DomainError) return { ...ANONYMOUS, refusal };
    throw refusal;
  }
}
