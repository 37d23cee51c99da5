import { Hono } from "hono";
import { success } from "#core/http/envelope.ts";
import { getCommit } from "#core/services/commits.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { AppEnv } from "./env.ts";

/** `/commits`: what evaluations were made of. */
export function commitRoutes(deps: Pick<ServiceDeps, "db">): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:id", async (c) => {
    return c.json(success(await getCommit(deps, c.get("actor"), c.req.param("id"))));
  });

  return app;
}
