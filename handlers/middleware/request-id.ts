import type { MiddlewareHandler } from "hono";
import type { Clock } from "#core/lib/clock.ts";
import { type RandomBytes, uuidV7 } from "#core/lib/ids.ts";
import type { AppEnv } from "../env.ts";

const HEADER = "x-request-id";
/** Anything else could forge lines in a log. */
const ACCEPTED = /^[A-Za-z0-9._-]{1,128}$/;

export interface RequestIdOptions {
  /** Runs a request so that each line logged meanwhile can carry its id. */
  readonly inRequest?: ((requestId: string, run: () => Promise<void>) => Promise<void>) | undefined;
}

/** Takes the client's request id or makes one, and echoes it: an answer and its log lines carry the same. */
export function requestId(
  { clock, random }: { readonly clock: Clock; readonly random: RandomBytes },
  { inRequest }: RequestIdOptions = {},
): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const given = c.req.header(HEADER);
    const id = given !== undefined && ACCEPTED.test(given) ? given : uuidV7(clock.now(), random);
    c.set("requestId", id);
    // Before the handler, so that the answer is made with it; adding it afterwards would copy the answer.
    c.header(HEADER, id);
    if (inRequest) await inRequest(id, next);
    else await next();
  };
}
