import { Hono } from "hono";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { endOtherSessions, endSession, listSessions } from "#core/services/sessions.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId } from "./parse.ts";

/** `/user/sessions`: where the user is signed in. */
export function sessionRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get("/sessions", signedIn, async (c) => c.json(success(await listSessions(deps, c.get("actor")))));

  app.delete("/sessions", signedIn, async (c) => {
    const count = await endOtherSessions(deps, c.get("actor"));
    return c.json(success(`Sessions ended: ${count}`));
  });

  app.delete("/sessions/:id", signedIn, async (c) => {
    await endSession(deps, c.get("actor"), readId(c, "id", "session id"));
    return c.json(success("Session ended"));
  });

  return app;
}
