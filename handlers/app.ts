import { Hono } from "hono";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { AppEnv } from "./env.ts";
import { errorResponder, notFoundResponder } from "./errors.ts";
import { generalRoutes } from "./general.ts";
import { actor } from "./middleware/actor.ts";
import { bodyLimit } from "./middleware/body-limit.ts";
import { type ClientIpOptions, clientIp } from "./middleware/client-ip.ts";
import { requestId } from "./middleware/request-id.ts";

export interface AppDeps extends ServiceDeps {
  readonly http: ClientIpOptions & {
    /** The largest request body of most routes, in bytes (`GRADIENT_MAX_REQUEST_SIZE`). */
    readonly requestBytesMax: number;
  };
}

/** Everything the server answers to HTTP, as one `fetch`. */
export function createApp(deps: AppDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.onError(errorResponder(deps.log));
  app.notFound(notFoundResponder);
  app.route("/api/v1", apiRoutes(deps));
  return app;
}

function apiRoutes(deps: AppDeps): Hono<AppEnv> {
  const api = new Hono<AppEnv>();
  api.use(requestId(deps), bodyLimit(deps.http.requestBytesMax), clientIp(deps.http), actor(deps));
  api.route("/", generalRoutes(deps));
  return api;
}
