import { Hono } from "hono";
import { EntryPointsQuery, EvaluateBody, EvaluationsQuery } from "#core/api/projects.ts";
import { success } from "#core/http/envelope.ts";
import { evaluateProject } from "#core/services/evaluate.ts";
import type { ProjectDeps } from "#core/services/projects-deps.ts";
import {
  describeProject,
  listProjectEntryPoints,
  listProjectEvaluations,
} from "#core/services/projects-evaluations.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readJson, readQuery } from "./parse.ts";

/** `/projects/{organization}/{project}`: a project's evaluations, and starting one. */
export function projectEvaluationRoutes(deps: ProjectDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.post("/:organization/:project/evaluate", signedIn, async (c) => {
    const order = { ...(await readJson(c, EvaluateBody)), signal: c.req.raw.signal };
    const { evaluationId, message } = await evaluateProject(deps, c.get("actor"), c.req.param(), order);
    // The body is a text for people; a program follows this.
    return c.json(success(message), 200, { location: `/api/v1/evals/${evaluationId}` });
  });

  app.get("/:organization/:project/evaluations", async (c) => {
    const { limit } = readQuery(c, EvaluationsQuery);
    return c.json(success(await listProjectEvaluations(deps, c.get("actor"), c.req.param(), limit)));
  });

  app.get("/:organization/:project/details", async (c) => {
    return c.json(success(await describeProject(deps, c.get("actor"), c.req.param())));
  });

  app.get("/:organization/:project/entry-points", async (c) => {
    const { evaluation_id } = readQuery(c, EntryPointsQuery);
    return c.json(success(await listProjectEntryPoints(deps, c.get("actor"), c.req.param(), evaluation_id)));
  });

  return app;
}
