import type { Actor } from "#core/domain/actor.ts";

/** What the middleware in `app.ts` puts into every request's context. */
export interface AppEnv {
  Variables: {
    readonly actor: Actor;
    readonly requestId: string;
    /** As believed from the trusted proxies; for allow-lists and rate limits. */
    readonly clientIp: string;
  };
}
