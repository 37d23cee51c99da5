import type { MiddlewareHandler } from "hono";
import { requireUser } from "#core/domain/actor.ts";
import type { AppEnv } from "../env.ts";

/** For routes that nobody uses anonymously: refused before the path, the query or the body is looked at. */
export const signedIn: MiddlewareHandler<AppEnv> = async (c, next) => {
  requireUser(c.get("actor"));
  await next();
};
