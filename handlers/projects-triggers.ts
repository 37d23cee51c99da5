import { Hono } from "hono";
import { ChangeTriggerBody, CreateTriggerBody } from "#core/api/triggers.ts";
import { success } from "#core/http/envelope.ts";
import type { ProjectDeps } from "#core/services/projects-deps.ts";
import {
  addProjectTrigger,
  changeProjectTrigger,
  getProjectTrigger,
  listProjectTriggers,
  removeProjectTrigger,
  testProjectTrigger,
} from "#core/services/triggers.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { parseId, readJson } from "./parse.ts";

/** `/projects/{organization}/{project}/triggers`: what begins evaluations by itself. */
export function triggerRoutes(deps: ProjectDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:organization/:project/triggers", signedIn, async (c) => {
    return c.json(success(await listProjectTriggers(deps, c.get("actor"), c.req.param())));
  });

  app.post("/:organization/:project/triggers", signedIn, async (c) => {
    const body = await readJson(c, CreateTriggerBody);
    return c.json(success(await addProjectTrigger(deps, c.get("actor"), c.req.param(), body)));
  });

  app.get("/:organization/:project/triggers/:id", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    return c.json(success(await getProjectTrigger(deps, c.get("actor"), name, parseId(id, "trigger id"))));
  });

  app.patch("/:organization/:project/triggers/:id", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    const body = await readJson(c, ChangeTriggerBody);
    return c.json(success(await changeProjectTrigger(deps, c.get("actor"), name, parseId(id, "trigger id"), body)));
  });

  app.delete("/:organization/:project/triggers/:id", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    await removeProjectTrigger(deps, c.get("actor"), name, parseId(id, "trigger id"));
    return c.json(success("Trigger deleted"));
  });

  app.post("/:organization/:project/triggers/:id/test", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    const order = { id: parseId(id, "trigger id"), signal: c.req.raw.signal };
    return c.json(success(await testProjectTrigger(deps, c.get("actor"), name, order)));
  });

  return app;
}
