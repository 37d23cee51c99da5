import type { Actor } from "#core/domain/actor.ts";
import type { ClientAddress } from "#core/http/client-address.ts";

/** What the middleware in `app.ts` puts into every request's context. */
export interface AppEnv {
  Variables: {
    /** Anonymous when no credentials came or they were refused; `requireUser` says why where a user is needed. */
    readonly actor: Actor;
    readonly requestId: string;
    /** As believed from the trusted proxies; for allow-lists and rate limits. */
    readonly clientIp: string;
    readonly client: ClientAddress;
    /** The largest body that `readJson` takes, in bytes. */
    readonly bodyBytesMax: number;
  };
}
