import type { Context, MiddlewareHandler } from "hono";
import { type Actor, type ActorClient, ANONYMOUS } from "#core/domain/actor.ts";
import { DomainError } from "#core/errors.ts";
import { apiToken, isOwnPageWrite } from "#core/http/credentials.ts";
import type { PageOrigins } from "#core/http/page-origin.ts";
import { recordDenial } from "#core/services/audit.ts";
import { authenticate, CredentialRefusal } from "#core/services/authenticate.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { AppEnv } from "../env.ts";

export interface ActorOptions extends Pick<PageOrigins, "pageOrigins"> {
  /** False where the database is only read: refused credentials are not written down there. */
  readonly recordsDenials?: boolean | undefined;
}

/** Finds out who asks. Refused credentials make an anonymous actor that knows why, should a user be needed. */
export function actor(
  deps: Pick<ServiceDeps, "db" | "clock" | "settings">,
  { pageOrigins, recordsDenials = true }: ActorOptions = {},
): MiddlewareHandler<AppEnv> {
  const origins = { serveUrl: deps.settings.serveUrl, pageOrigins };
  return async (c, next) => {
    if (!isOwnPageWrite(c.req.raw, origins)) {
      throw new DomainError("forbidden", "The request comes from a page of another origin: nothing was changed");
    }
    const token = apiToken(c.req.raw.headers);
    const { address, network } = c.get("client");
    const client = { address, network, userAgent: c.req.header("user-agent") ?? null };
    const found = token === null ? ANONYMOUS : await resolve(deps, c, { token, client, recordsDenials });
    c.set("actor", { ...found, client });
    // Answers depend on who asks; a route that knows better says so.
    c.header("cache-control", "no-store");
    await next();
  };
}

interface Credentials {
  readonly token: string;
  readonly client: ActorClient;
  readonly recordsDenials: boolean;
}

async function resolve(
  deps: Pick<ServiceDeps, "db" | "clock" | "settings">,
  c: Context<AppEnv>,
  { token, client, recordsDenials }: Credentials,
): Promise<Actor> {
  try {
    return await authenticate(deps, { token, clientAddress: client.address });
  } catch (refusal) {
    if (!(refusal instanceof DomainError)) throw refusal;
    const userId = refusal instanceof CredentialRefusal ? refusal.userId : null;
    const metadata = { reason: refusal.code, method: c.req.method, path: c.req.path };
    if (recordsDenials) await recordDenial(deps.db, { userId, client, metadata });
    return { ...ANONYMOUS, refusal };
  }
}
