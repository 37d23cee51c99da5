import { Hono } from "hono";
import { BuildAction } from "#core/api/actions.ts";
import { success } from "#core/http/envelope.ts";
import { getBuildGraph } from "#core/services/build-graph.ts";
import { actOnBuild, getBuild, listDependencies } from "#core/services/builds.ts";
import { getBuildClosure } from "#core/services/closures.ts";
import type { ProjectDeps } from "#core/services/projects-deps.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readJson } from "./parse.ts";

/** `/builds`: a build as one evaluation sees it. */
export function buildRoutes(deps: Pick<ProjectDeps, "db" | "control">): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:id", async (c) => {
    return c.json(success(await getBuild(deps, c.get("actor"), readId(c, "id", "build id"))));
  });

  app.post("/:id", signedIn, async (c) => {
    const id = readId(c, "id", "build id");
    const { message, evaluationId } = await actOnBuild(deps, c.get("actor"), id, await readJson(c, BuildAction));
    return c.json(success(message), 200, { location: `/api/v1/evals/${evaluationId}` });
  });

  app.get("/:id/dependencies", async (c) => {
    return c.json(success(await listDependencies(deps, c.get("actor"), readId(c, "id", "build id"))));
  });

  app.get("/:id/graph", async (c) => {
    return c.json(success(await getBuildGraph(deps, c.get("actor"), readId(c, "id", "build id"))));
  });

  app.get("/:id/closure", async (c) => {
    const id = readId(c, "id", "build id");
    return c.json(success(await getBuildClosure(deps, c.get("actor"), id, "build")));
  });

  app.get("/:id/runtime-closure", async (c) => {
    const id = readId(c, "id", "build id");
    return c.json(success(await getBuildClosure(deps, c.get("actor"), id, "runtime")));
  });

  return app;
}
