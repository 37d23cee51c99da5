import { Hono } from "hono";
import { LatestQuery } from "#core/api/caches-retention.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { listLatestBuilds } from "#core/services/projects-latest.ts";
import type { AppEnv } from "./env.ts";
import { readQuery } from "./parse.ts";

/** `/projects/{organization}/{project}/latest`: what was built last, whatever newer evaluations came to. */
export function latestBuildRoutes(deps: Pick<ServiceDeps, "db">): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:organization/:project/latest", async (c) => {
    const { attribute } = readQuery(c, LatestQuery);
    const which = { organization: c.req.param("organization"), project: c.req.param("project") };
    return c.json(success(await listLatestBuilds(deps, c.get("actor"), which, attribute)));
  });

  return app;
}
