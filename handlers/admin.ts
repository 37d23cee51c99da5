import { Hono } from "hono";
import { DrainingBody } from "#core/api/admin.ts";
import { success } from "#core/http/envelope.ts";
import { drainInstance, listConnectedWorkers } from "#core/services/admin.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readJson } from "./parse.ts";

/** `/admin`: what superusers do about the whole instance. */
export function adminRoutes(deps: Pick<ServiceDeps, "db" | "notifier" | "settings">): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/workers", signedIn, async (c) => c.json(success(await listConnectedWorkers(deps, c.get("actor")))));

  app.post("/draining", signedIn, async (c) => {
    const { enabled } = await readJson(c, DrainingBody);
    return c.json(success(await drainInstance(deps, c.get("actor"), enabled)));
  });

  return app;
}
