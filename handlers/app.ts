import { Hono } from "hono";
import type { DeliveryDeps } from "#core/services/action-delivery.ts";
import type { LogReadDeps } from "#core/services/build-logs-read.ts";
import type { BuildRequestDeps } from "#core/services/build-requests-deps.ts";
import type { UploadDeps } from "#core/services/cache-upload.ts";
import { CHUNK_BYTES_MAX } from "#core/services/cache-upload-parts.ts";
import type { UpstreamAdminDeps } from "#core/services/caches-upstreams.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { DownloadDeps } from "#core/services/downloads-open.ts";
import type { OidcDeps } from "#core/services/oidc.ts";
import type { ProjectDeps } from "#core/services/projects-deps.ts";
import type { RetentionDeps } from "#core/services/retention-deps.ts";
import { adminRoutes } from "./admin.ts";
import { adminStateRoutes } from "./admin-state.ts";
import { adminTaskRoutes } from "./admin-tasks.ts";
import { auditLogRoutes } from "./audit-log.ts";
import { authRoutes } from "./auth.ts";
import { deviceRoutes } from "./auth-device.ts";
import { oidcRoutes } from "./auth-oidc.ts";
import { badgeRoutes } from "./badges.ts";
import { boardRoutes } from "./board.ts";
import { buildRequestRoutes } from "./build-requests.ts";
import { buildRoutes } from "./builds.ts";
import { buildDownloadRoutes } from "./builds-downloads.ts";
import { buildLogRoutes } from "./builds-logs.ts";
import { cacheRoutes } from "./caches.ts";
import { cacheKeyRoutes } from "./caches-keys.ts";
import { cacheMemberRoutes } from "./caches-members.ts";
import { cacheNarRoutes } from "./caches-nars.ts";
import { cacheRetentionRoutes } from "./caches-retention.ts";
import { cacheUploadRoutes, DESCRIPTION_BYTES_MAX } from "./caches-uploads.ts";
import { upstreamRoutes } from "./caches-upstreams.ts";
import { commitRoutes } from "./commits.ts";
import type { AppEnv } from "./env.ts";
import { errorResponder, notFoundResponder } from "./errors.ts";
import { evaluationRoutes } from "./evaluations.ts";
import { liveRoutes } from "./evaluations-live.ts";
import { generalRoutes } from "./general.ts";
import { hostRoutes } from "./hosts.ts";
import { actor } from "./middleware/actor.ts";
import { bodyLimit } from "./middleware/body-limit.ts";
import { type ClientIpOptions, clientIp } from "./middleware/client-ip.ts";
import { cors } from "./middleware/cors.ts";
import { type ObserveOptions, observe } from "./middleware/observe.ts";
import { guessLimit, passwordLimit, type RateLimitOptions, rateLimit } from "./middleware/rate-limit.ts";
import { type RequestIdOptions, requestId } from "./middleware/request-id.ts";
import { securityHeaders } from "./middleware/security-headers.ts";
import { openApiRoutes } from "./openapi.ts";
import { organizationRoutes } from "./orgs.ts";
import { integrationRoutes } from "./orgs-integrations.ts";
import { memberRoutes } from "./orgs-members.ts";
import { subscriptionRoutes } from "./orgs-subscriptions.ts";
import { projectRoutes } from "./projects.ts";
import { actionRoutes } from "./projects-actions.ts";
import { projectEvaluationRoutes } from "./projects-evaluations.ts";
import { flakeInputRoutes } from "./projects-flake-inputs.ts";
import { latestBuildRoutes } from "./projects-latest.ts";
import { projectMetricAliases, projectMetricRoutes } from "./projects-metrics.ts";
import { triggerRoutes } from "./projects-triggers.ts";
import { cacheRoleRoutes, organizationRoleRoutes } from "./roles.ts";
import { userRoutes } from "./user.ts";
import { sessionRoutes } from "./user-sessions.ts";
import { workerRoutes } from "./workers.ts";

export interface AppDeps
  extends ServiceDeps,
    ProjectDeps,
    LogReadDeps,
    BuildRequestDeps,
    UploadDeps,
    DownloadDeps,
    OidcDeps,
    RetentionDeps,
    UpstreamAdminDeps,
    DeliveryDeps {
  readonly http: ClientIpOptions &
    RateLimitOptions &
    RequestIdOptions &
    ObserveOptions & {
      /** The largest request body of most routes, in bytes (`GRADIENT_MAX_REQUEST_SIZE`). */
      readonly requestBytesMax: number;
      /** Of pages besides those of the serve URL that may use the API with a visitor's cookie. */
      readonly pageOrigins?: readonly string[];
      /** False where the database is only read. */
      readonly recordsDenials?: boolean;
    };
}

const MIB = 1024 * 1024;
/** Some 100 000 files. */
const MANIFEST_BYTES_MAX = 16 * MIB;
/** Some 30 000 paths with what they refer to. */
const PATHS_BYTES_MAX = 16 * MIB;
const BLOBS_BYTES_MAX = 20 * MIB;
const MULTIPART_BYTES_MAX = 64 * 1024;

/** Everything the server answers to HTTP, as one `fetch`. */
export function createApp(deps: AppDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.onError(errorResponder(deps.log));
  app.notFound(notFoundResponder(app));
  const { serveUrl } = deps.settings;
  app.use(requestId(deps, deps.http), observe(deps, deps.http), securityHeaders);
  app.use(cors({ serveUrl, pageOrigins: deps.http.pageOrigins }));
  app.route("/api/v1", apiRoutes(deps));
  return app;
}

function apiRoutes(deps: AppDeps): Hono<AppEnv> {
  const api = new Hono<AppEnv>();
  api.use(clientIp(deps.http), rateLimit(deps.http, "default"));
  api.use("/auth/*", guessLimit(deps.http));
  for (const path of ["/user", "/user/password", "/user/settings"]) api.use(path, passwordLimit(deps.http));
  api.use("/hooks/*", rateLimit(deps.http, "webhook"));
  // Each sends mails or requests wherever the asker likes.
  api.use("/projects/:organization/:project/actions/:action/test", rateLimit(deps.http, "auth"));
  limitBodies(api, deps);
  api.use(actor(deps, deps.http));
  api.route("/", generalRoutes(deps));
  api.route("/", openApiRoutes());
  api.route("/auth", authRoutes(deps));
  api.route("/auth", oidcRoutes(deps));
  api.route("/auth", deviceRoutes(deps));
  api.route("/", auditLogRoutes(deps));
  api.route("/user", userRoutes(deps));
  api.route("/user", sessionRoutes(deps));
  api.route("/orgs", organizationRoutes(deps));
  api.route("/orgs", memberRoutes(deps));
  api.route("/orgs", organizationRoleRoutes(deps));
  api.route("/orgs", integrationRoutes(deps));
  api.route("/orgs", subscriptionRoutes(deps));
  api.route("/orgs", workerRoutes(deps));
  api.route("/caches", cacheRoutes(deps));
  api.route("/caches", cacheMemberRoutes(deps));
  api.route("/caches", cacheRoleRoutes(deps));
  api.route("/caches", cacheKeyRoutes(deps));
  api.route("/caches", cacheNarRoutes(deps));
  api.route("/caches", cacheRetentionRoutes(deps));
  api.route("/caches", cacheUploadRoutes(deps));
  api.route("/caches", upstreamRoutes(deps));
  api.route("/projects", projectRoutes(deps));
  api.route("/projects", projectEvaluationRoutes(deps));
  api.route("/projects", latestBuildRoutes(deps));
  api.route("/projects", flakeInputRoutes(deps));
  api.route("/projects", triggerRoutes(deps));
  api.route("/projects", actionRoutes(deps));
  api.route("/projects", projectMetricRoutes(deps));
  api.route("/projects", badgeRoutes(deps));
  api.route("/metrics/projects", projectMetricAliases(deps));
  api.route("/commits", commitRoutes(deps));
  api.route("/evals", evaluationRoutes(deps));
  api.route("/", liveRoutes(deps));
  api.route("/", hostRoutes(deps));
  api.route("/builds", buildRoutes(deps));
  api.route("/builds", buildLogRoutes(deps));
  api.route("/builds", buildDownloadRoutes(deps));
  api.route("/build-requests", buildRequestRoutes(deps));
  api.route("/board", boardRoutes(deps));
  api.route("/admin", adminRoutes(deps));
  api.route("/admin", adminStateRoutes(deps));
  api.route("/admin", adminTaskRoutes(deps));
  return api;
}

/** Sources are larger than what people write. */
function limitBodies(api: Hono<AppEnv>, { http, sourceBytesMax, narUploadBytesMax }: AppDeps): void {
  // What frames the parts of a multipart body.
  const source = bodyLimit(sourceBytesMax + MULTIPART_BYTES_MAX);
  api.use("/build-requests/source", source);
  api.use("/build-requests/source/:id/chunk", source);
  api.use("/build-requests/:id/blobs", bodyLimit(BLOBS_BYTES_MAX));
  api.use("/build-requests/manifest", bodyLimit(Math.max(http.requestBytesMax, MANIFEST_BYTES_MAX)));
  api.use("/caches/:cache/nars", bodyLimit(narUploadBytesMax + DESCRIPTION_BYTES_MAX + MULTIPART_BYTES_MAX));
  api.use("/caches/:cache/nars/:hash/chunk", bodyLimit(CHUNK_BYTES_MAX));
  const paths = bodyLimit(Math.max(http.requestBytesMax, PATHS_BYTES_MAX));
  for (const route of ["closures", "nars/missing", "nars/:hash/finalize", "nars/:hash/presigned/complete"]) {
    api.use(`/caches/:cache/${route}`, paths);
  }
  api.use(bodyLimit(http.requestBytesMax));
}
