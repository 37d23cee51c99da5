import { Hono } from "hono";
import { NameQuery } from "#core/api/organizations.ts";
import { PageQuery } from "#core/api/pages.ts";
import { ChangeProjectBody, CreateProjectBody, TransferProjectBody } from "#core/api/projects.ts";
import { success } from "#core/http/envelope.ts";
import {
  changeProject,
  checkRepository,
  createProject,
  getProject,
  isProjectNameFree,
  listProjectsOf,
  removeProject,
  switchProject,
} from "#core/services/projects.ts";
import type { ProjectDeps } from "#core/services/projects-deps.ts";
import { transferProject } from "#core/services/projects-transfer.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readJson, readQuery } from "./parse.ts";

/** `/projects`: what an organization evaluates, and how. */
export function projectRoutes(deps: ProjectDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:organization", async (c) => {
    const { organization } = c.req.param();
    return c.json(success(await listProjectsOf(deps, c.get("actor"), organization, readQuery(c, PageQuery))));
  });

  app.put("/:organization", signedIn, async (c) => {
    const { organization } = c.req.param();
    const body = await readJson(c, CreateProjectBody);
    return c.json(success(await createProject(deps, c.get("actor"), organization, body)));
  });

  app.get("/:organization/available", signedIn, async (c) => {
    const { organization } = c.req.param();
    const { name } = readQuery(c, NameQuery);
    return c.json(success(await isProjectNameFree(deps, c.get("actor"), organization, name)));
  });

  app.get("/:organization/:project", async (c) => {
    return c.json(success(await getProject(deps, c.get("actor"), c.req.param())));
  });

  app.patch("/:organization/:project", signedIn, async (c) => {
    const body = await readJson(c, ChangeProjectBody);
    return c.json(success(await changeProject(deps, c.get("actor"), c.req.param(), body)));
  });

  app.delete("/:organization/:project", signedIn, async (c) => {
    await removeProject(deps, c.get("actor"), c.req.param());
    return c.json(success("Project deleted"));
  });

  app.post("/:organization/:project/active", signedIn, async (c) => {
    await switchProject(deps, c.get("actor"), c.req.param(), true);
    return c.json(success("Project activated"));
  });

  app.delete("/:organization/:project/active", signedIn, async (c) => {
    await switchProject(deps, c.get("actor"), c.req.param(), false);
    return c.json(success("Project deactivated"));
  });

  app.post("/:organization/:project/transfer", signedIn, async (c) => {
    const { organization } = await readJson(c, TransferProjectBody);
    const to = await transferProject(deps, c.get("actor"), c.req.param(), organization);
    return c.json(success(`Project transferred to ${to}`));
  });

  app.post("/:organization/:project/check-repository", signedIn, async (c) => {
    return c.json(success(await checkRepository(deps, c.get("actor"), c.req.param(), c.req.raw.signal)));
  });

  return app;
}
