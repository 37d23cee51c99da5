import { Hono } from "hono";
import { MemberBody, RemoveMemberBody } from "#core/api/organizations.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { addMember, changeMember, listMembers, removeMember } from "#core/services/members.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { parseAs, readJson } from "./parse.ts";

/** `/caches/{cache}/members`: who belongs to a cache, and in which role. */
export function cacheMemberRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:cache/members", signedIn, async (c) => {
    return c.json(success(await listMembers(deps, c.get("actor"), { cache: c.req.param("cache") })));
  });

  app.post("/:cache/members", signedIn, async (c) => {
    await addMember(deps, c.get("actor"), { cache: c.req.param("cache") }, await readJson(c, MemberBody));
    return c.json(success("Member added"));
  });

  app.patch("/:cache/members", signedIn, async (c) => {
    await changeMember(deps, c.get("actor"), { cache: c.req.param("cache") }, await readJson(c, MemberBody));
    return c.json(success("Role changed"));
  });

  app.delete("/:cache/members", signedIn, async (c) => {
    const { user } = await readJson(c, RemoveMemberBody);
    await removeMember(deps, c.get("actor"), { cache: c.req.param("cache") }, user);
    return c.json(success("Member removed"));
  });

  // The original's document has the user in the path; its server has it in the body. Both work.
  app.delete("/:cache/members/:user", signedIn, async (c) => {
    const { user } = parseAs(RemoveMemberBody, { user: c.req.param("user") });
    await removeMember(deps, c.get("actor"), { cache: c.req.param("cache") }, user);
    return c.json(success("Member removed"));
  });

  return app;
}
