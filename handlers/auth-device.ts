import { Hono } from "hono";
import { AnswerDeviceBody, DeviceQuery, PollDeviceBody } from "#core/api/auth-device.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import {
  authorizeDevice,
  denyDevice,
  describeDevice,
  pollDeviceLogin,
  startDeviceLogin,
} from "#core/services/device-login.ts";
import { clientOf } from "./client-of.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readJson, readQuery } from "./parse.ts";

/** `/auth/cli`: a command line is let in by somebody who is signed in in a browser. */
export function deviceRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.post("/cli/start", async (c) => c.json(success(await startDeviceLogin(deps, clientOf(c)))));

  app.post("/cli/poll", async (c) => {
    const { device_code } = await readJson(c, PollDeviceBody);
    return c.json(success(await pollDeviceLogin(deps, device_code, clientOf(c))));
  });

  app.get("/cli/info", signedIn, async (c) => {
    return c.json(success(await describeDevice(deps, c.get("actor"), readQuery(c, DeviceQuery).user_code)));
  });

  app.post("/cli/authorize", signedIn, async (c) => {
    await authorizeDevice(deps, c.get("actor"), (await readJson(c, AnswerDeviceBody)).user_code);
    return c.json(success("The device is let in: go back to it"));
  });

  app.post("/cli/deny", signedIn, async (c) => {
    await denyDevice(deps, c.get("actor"), (await readJson(c, AnswerDeviceBody)).user_code);
    return c.json(success("The device is not let in"));
  });

  return app;
}
