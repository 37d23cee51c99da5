import { Hono } from "hono";
import { StateQuery } from "#core/api/admin-state.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { exportState, exportStateAsNix } from "#core/services/state-export.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readQuery } from "./parse.ts";

/** `/admin/state`: what the server holds, as a state file would declare it. Not in an envelope: it is a file. */
export function adminStateRoutes(deps: Pick<ServiceDeps, "db">): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/state", signedIn, async (c) => {
    const { format } = readQuery(c, StateQuery);
    c.header("Cache-Control", "no-store");
    if (format === "json") return c.json(await exportState(deps, c.get("actor")));
    return c.text(await exportStateAsNix(deps, c.get("actor")));
  });

  return app;
}
