import { Hono } from "hono";
import { success } from "#core/http/envelope.ts";
import { getBuild, listDependencies } from "#core/services/builds.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { AppEnv } from "./env.ts";
import { readId } from "./parse.ts";

/** `/builds`: a build as one evaluation sees it. */
export function buildRoutes(deps: Pick<ServiceDeps, "db">): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:id", async (c) => {
    return c.json(success(await getBuild(deps, c.get("actor"), readId(c, "id", "build id"))));
  });

  app.get("/:id/dependencies", async (c) => {
    return c.json(success(await listDependencies(deps, c.get("actor"), readId(c, "id", "build id"))));
  });

  return app;
}
