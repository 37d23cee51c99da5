import { type Context, Hono } from "hono";
import { ChangeRoleBody, CreateRoleBody } from "#core/api/roles.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { RealmName } from "#core/services/realms.ts";
import { changeRole, createRole, deleteRole, getRole, listRoles } from "#core/services/roles.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readJson } from "./parse.ts";

/** `/orgs/{org}/roles`: what members of an organization may do. */
export function organizationRoleRoutes(deps: ServiceDeps): Hono<AppEnv> {
  return roleRoutes(deps, "/:org/roles", (c) => ({ organization: c.req.param("org") ?? "" }));
}

/** `/caches/{cache}/roles`: what members of a cache may do. */
export function cacheRoleRoutes(deps: ServiceDeps): Hono<AppEnv> {
  return roleRoutes(deps, "/:cache/roles", (c) => ({ cache: c.req.param("cache") ?? "" }));
}

function roleRoutes(deps: ServiceDeps, path: string, realmOf: (c: Context<AppEnv>) => RealmName): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get(path, signedIn, async (c) => c.json(success(await listRoles(deps, c.get("actor"), realmOf(c)))));

  app.post(path, signedIn, async (c) => {
    return c.json(success(await createRole(deps, c.get("actor"), realmOf(c), await readJson(c, CreateRoleBody))));
  });

  app.get(`${path}/:role`, signedIn, async (c) => {
    return c.json(success(await getRole(deps, c.get("actor"), realmOf(c), readId(c, "role", "role id"))));
  });

  app.patch(`${path}/:role`, signedIn, async (c) => {
    const which = { name: realmOf(c), id: readId(c, "role", "role id") };
    return c.json(success(await changeRole(deps, c.get("actor"), which, await readJson(c, ChangeRoleBody))));
  });

  app.delete(`${path}/:role`, signedIn, async (c) => {
    await deleteRole(deps, c.get("actor"), { name: realmOf(c), id: readId(c, "role", "role id") });
    return c.json(success(true));
  });

  return app;
}
