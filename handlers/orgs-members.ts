import { Hono } from "hono";
import { MemberBody, RemoveMemberBody } from "#core/api/organizations.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { addMember, changeMember, listMembers, removeMember } from "#core/services/members.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readJson } from "./parse.ts";

/** `/orgs/{org}/users`: who belongs to an organization, and in which role. */
export function memberRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:org/users", async (c) => {
    return c.json(success(await listMembers(deps, c.get("actor"), { organization: c.req.param("org") })));
  });

  app.post("/:org/users", signedIn, async (c) => {
    await addMember(deps, c.get("actor"), { organization: c.req.param("org") }, await readJson(c, MemberBody));
    return c.json(success("Member added"));
  });

  app.patch("/:org/users", signedIn, async (c) => {
    await changeMember(deps, c.get("actor"), { organization: c.req.param("org") }, await readJson(c, MemberBody));
    return c.json(success("Role changed"));
  });

  app.delete("/:org/users", signedIn, async (c) => {
    const { user } = await readJson(c, RemoveMemberBody);
    await removeMember(deps, c.get("actor"), { organization: c.req.param("org") }, user);
    return c.json(success("Member removed"));
  });

  return app;
}
