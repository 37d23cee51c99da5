import { Hono } from "hono";
import { ChangeKeyBody, CreateKeyBody, DeleteKeyBody } from "#core/api/keys.ts";
import { ChangePasswordBody, ChangeSettingsBody, DeleteUserBody, SearchUsersQuery } from "#core/api/user.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { changeKey, createKey, deleteKey, listKeyPermissions, listKeys, revokeKey } from "#core/services/keys.ts";
import { getOwnUser } from "#core/services/registration.ts";
import { deleteOwnUser } from "#core/services/user-deletion.ts";
import { changePassword, changeSettings, findUsers, getSettings } from "#core/services/user-settings.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readJson, readQuery } from "./parse.ts";

/** `/user`: the signed-in user and their API keys. */
export function userRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.use(signedIn);

  app.get("/", async (c) => c.json(success(await getOwnUser(deps, c.get("actor")))));

  app.delete("/", async (c) => {
    await deleteOwnUser(deps, c.get("actor"), await readJson(c, DeleteUserBody));
    return c.json(success("The account was deleted"));
  });

  app.get("/search", async (c) => {
    return c.json(success(await findUsers(deps, c.get("actor"), readQuery(c, SearchUsersQuery).q)));
  });

  app.get("/settings", async (c) => c.json(success(await getSettings(deps, c.get("actor")))));

  app.patch("/settings", async (c) => {
    return c.json(success(await changeSettings(deps, c.get("actor"), await readJson(c, ChangeSettingsBody))));
  });

  app.post("/password", async (c) => {
    await changePassword(deps, c.get("actor"), await readJson(c, ChangePasswordBody));
    return c.json(success("The password was changed, and all other sessions were ended"));
  });

  app.get("/keys", async (c) => c.json(success(await listKeys(deps, c.get("actor")))));

  app.post("/keys", async (c) => {
    return c.json(success(await createKey(deps, c.get("actor"), await readJson(c, CreateKeyBody))));
  });

  app.delete("/keys", async (c) => {
    const { name } = await readJson(c, DeleteKeyBody);
    await deleteKey(deps, c.get("actor"), name);
    return c.json(success("API key deleted"));
  });

  app.get("/keys/permissions", (c) => c.json(success(listKeyPermissions(c.get("actor")))));

  app.patch("/keys/:id", async (c) => {
    const id = readId(c, "id", "key id");
    return c.json(success(await changeKey(deps, c.get("actor"), id, await readJson(c, ChangeKeyBody))));
  });

  app.post("/keys/:id/revoke", async (c) => {
    await revokeKey(deps, c.get("actor"), readId(c, "id", "key id"));
    return c.json(success("API key revoked"));
  });

  return app;
}
