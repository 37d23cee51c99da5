import { Hono } from "hono";
import { AddFlakeInputBody, ChangeFlakeInputBody } from "#core/api/flake-inputs.ts";
import { success } from "#core/http/envelope.ts";
import {
  addProjectInput,
  changeProjectInput,
  getProjectInput,
  listProjectInputs,
  removeProjectInput,
} from "#core/services/flake-inputs.ts";
import type { ProjectDeps } from "#core/services/projects-deps.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { parseId, readJson } from "./parse.ts";

/** `/projects/{organization}/{project}/flake-inputs`: inputs that are not what the flake's lock says. */
export function flakeInputRoutes(deps: ProjectDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:organization/:project/flake-inputs", signedIn, async (c) => {
    return c.json(success(await listProjectInputs(deps, c.get("actor"), c.req.param())));
  });

  app.post("/:organization/:project/flake-inputs", signedIn, async (c) => {
    const body = await readJson(c, AddFlakeInputBody);
    return c.json(success(await addProjectInput(deps, c.get("actor"), c.req.param(), body)));
  });

  app.get("/:organization/:project/flake-inputs/:id", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    return c.json(success(await getProjectInput(deps, c.get("actor"), name, parseId(id, "flake input id"))));
  });

  app.patch("/:organization/:project/flake-inputs/:id", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    const body = await readJson(c, ChangeFlakeInputBody);
    return c.json(success(await changeProjectInput(deps, c.get("actor"), name, parseId(id, "flake input id"), body)));
  });

  app.delete("/:organization/:project/flake-inputs/:id", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    await removeProjectInput(deps, c.get("actor"), name, parseId(id, "flake input id"));
    return c.json(success({ deleted: true }));
  });

  return app;
}
