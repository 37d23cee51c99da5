import { Hono } from "hono";
import { ChangeKeyBody, CreateKeyBody, DeleteKeyBody } from "#core/api/keys.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { changeKey, createKey, deleteKey, listKeyPermissions, listKeys, revokeKey } from "#core/services/keys.ts";
import { getOwnUser } from "#core/services/registration.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readJson } from "./parse.ts";

/** `/user`: the signed-in user and their API keys. */
export function userRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.use(signedIn);

  app.get("/", async (c) => c.json(success(await getOwnUser(deps, c.get("actor")))));

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
