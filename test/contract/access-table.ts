import type { ActorName } from "./people.ts";

/** The columns of the table, by the beginnings of their names. */
export const COLUMNS: Readonly<Record<string, ActorName>> = {
  /** Nobody. */
  ano: "anonymous",
  /** Signed in, and a member of nothing. */
  str: "stranger",
  vie: "view",
  wri: "write",
  adm: "admin",
  /** Holds `viewOrg` and `triggerEvaluation`; in the cache `viewCache`, `readStore` and `manageCacheKeys`. */
  cus: "custom",
  /** A key of the admin with every permission, pinned to the organization. */
  org: "orgKey",
  /** A key of the admin with every permission, pinned to the cache. */
  cac: "cacheKey",
  /** A key of the admin that has expired. */
  exp: "expired",
  /** A key of the admin, used from where it may not be. */
  els: "elsewhere",
  /** Belongs to nothing, either. */
  sup: "superuser",
};

/**
 * What everyone gets of every route, of a private organization and its cache: `ok`, or the status of the refusal. `ok`
 * is what `requests.ts` says of the route: success, or a refusal for a reason that has nothing to do with who asks.
 */
export const ACCESS_TABLE = `
route                                                                        ano str vie wri adm cus org cac exp els sup
GET /health                                                                  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /config                                                                  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /openapi.json                                                            ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /docs                                                                    ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
POST /auth/basic/register                                                    ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
POST /auth/basic/login                                                       ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
POST /auth/check-username                                                    ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /auth/verify-email                                                       ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
POST /auth/resend-verification                                               ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
POST /auth/password-reset                                                    ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
POST /auth/password-reset/confirm                                            ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
POST /auth/logout                                                            ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /auth/oidc/login                                                         ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /auth/oidc/callback                                                      ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
POST /auth/oauth/authorize                                                   ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /auth/oauth/authorize                                                    ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
POST /auth/cli/start                                                         ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
POST /auth/cli/poll                                                          ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /auth/cli/info                                                           401 ok  ok  ok  ok  ok  403 403 401 403 ok
POST /auth/cli/authorize                                                     401 ok  ok  ok  ok  ok  403 403 401 403 ok
POST /auth/cli/deny                                                          401 ok  ok  ok  ok  ok  403 403 401 403 ok
GET /user                                                                    401 ok  ok  ok  ok  ok  ok  ok  401 403 ok
DELETE /user                                                                 401 ok  ok  ok  409 ok  403 403 401 403 409
GET /user/search                                                             401 ok  ok  ok  ok  ok  ok  ok  401 403 ok
GET /user/settings                                                           401 ok  ok  ok  ok  ok  403 403 401 403 ok
PATCH /user/settings                                                         401 ok  ok  ok  ok  ok  403 403 401 403 ok
POST /user/password                                                          401 ok  ok  ok  ok  ok  403 403 401 403 ok
GET /user/sessions                                                           401 ok  ok  ok  ok  ok  403 403 401 403 ok
DELETE /user/sessions                                                        401 ok  ok  ok  ok  ok  403 403 401 403 ok
DELETE /user/sessions/{session}                                              401 404 404 404 ok  404 403 403 401 403 404
GET /user/audit-log                                                          401 ok  ok  ok  ok  ok  403 403 401 403 ok
GET /user/keys                                                               401 ok  ok  ok  ok  ok  ok  ok  401 403 ok
POST /user/keys                                                              401 ok  ok  ok  ok  ok  403 403 401 403 ok
DELETE /user/keys                                                            401 404 404 404 ok  404 403 403 401 403 404
GET /user/keys/permissions                                                   401 ok  ok  ok  ok  ok  ok  ok  401 403 ok
PATCH /user/keys/{key}                                                       401 404 404 404 ok  404 403 403 401 403 404
POST /user/keys/{key}/revoke                                                 401 404 404 404 ok  404 403 403 401 403 404
GET /orgs                                                                    401 ok  ok  ok  ok  ok  ok  ok  401 403 ok
PUT /orgs                                                                    401 ok  ok  ok  ok  ok  403 403 401 403 ok
GET /orgs/available                                                          401 ok  ok  ok  ok  ok  ok  ok  401 403 ok
GET /orgs/public                                                             ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /orgs/{organization}                                                     404 404 ok  ok  ok  ok  ok  404 404 404 404
PATCH /orgs/{organization}                                                   401 404 403 403 ok  403 ok  404 401 403 404
DELETE /orgs/{organization}                                                  401 404 403 403 ok  403 ok  404 401 403 404
POST /orgs/{organization}/public                                             401 404 403 403 ok  403 ok  404 401 403 404
DELETE /orgs/{organization}/public                                           401 404 403 403 ok  403 ok  404 401 403 404
GET /orgs/{organization}/users                                               404 404 ok  ok  ok  ok  ok  404 404 404 404
POST /orgs/{organization}/users                                              401 404 403 403 ok  403 ok  404 401 403 404
PATCH /orgs/{organization}/users                                             401 404 403 403 ok  403 ok  404 401 403 404
DELETE /orgs/{organization}/users                                            401 404 403 403 ok  403 ok  404 401 403 404
GET /orgs/{organization}/ssh                                                 401 404 ok  ok  ok  ok  ok  404 401 403 404
POST /orgs/{organization}/ssh                                                401 404 ok  ok  ok  403 ok  404 401 403 404
GET /orgs/{organization}/forge-webhook-secret                                401 404 ok  ok  ok  403 ok  404 401 403 404
POST /orgs/{organization}/forge-webhook-secret                               401 404 ok  ok  ok  403 ok  404 401 403 404
DELETE /orgs/{organization}/forge-webhook-secret                             401 404 ok  ok  ok  403 ok  404 401 403 404
GET /orgs/{organization}/subscribe                                           401 404 ok  ok  ok  ok  ok  404 401 403 404
POST /orgs/{organization}/subscribe/{cache}                                  401 404 404 404 ok  403 404 404 401 403 404
DELETE /orgs/{organization}/subscribe/{cache}                                401 404 403 403 ok  403 ok  404 401 403 404
GET /orgs/{organization}/roles                                               401 404 ok  ok  ok  ok  ok  404 401 403 404
POST /orgs/{organization}/roles                                              401 404 403 403 ok  403 ok  404 401 403 404
GET /orgs/{organization}/roles/{role}                                        401 404 ok  ok  ok  ok  ok  404 401 403 404
PATCH /orgs/{organization}/roles/{role}                                      401 404 403 403 ok  403 ok  404 401 403 404
DELETE /orgs/{organization}/roles/{role}                                     401 404 403 403 ok  403 ok  404 401 403 404
GET /orgs/{organization}/audit-log                                           401 404 403 403 ok  403 ok  404 401 403 404
GET /orgs/{organization}/integrations                                        401 404 ok  ok  ok  403 ok  404 401 403 404
PUT /orgs/{organization}/integrations                                        401 404 ok  ok  ok  403 ok  404 401 403 404
GET /orgs/{organization}/integrations/summary                                401 404 ok  ok  ok  ok  ok  404 401 403 404
GET /orgs/{organization}/integrations/{integration}                          401 404 ok  ok  ok  403 ok  404 401 403 404
PATCH /orgs/{organization}/integrations/{integration}                        401 404 ok  ok  ok  403 ok  404 401 403 404
DELETE /orgs/{organization}/integrations/{integration}                       401 404 ok  ok  ok  403 ok  404 401 403 404
GET /orgs/{organization}/workers                                             401 404 ok  ok  ok  ok  ok  404 401 403 404
POST /orgs/{organization}/workers                                            401 404 ok  ok  ok  403 ok  404 401 403 404
PATCH /orgs/{organization}/workers/{worker}                                  401 404 ok  ok  ok  403 ok  404 401 403 404
DELETE /orgs/{organization}/workers/{worker}                                 401 404 ok  ok  ok  403 ok  404 401 403 404
GET /orgs/{organization}/workers/{worker}/metrics                            401 404 ok  ok  ok  ok  ok  404 401 403 404
POST /orgs/{organization}/workers/{worker}/test                              401 404 ok  ok  ok  ok  ok  404 401 403 404
GET /projects/{organization}                                                 404 404 ok  ok  ok  ok  ok  404 404 404 404
PUT /projects/{organization}                                                 401 404 403 ok  ok  403 ok  404 401 403 404
GET /projects/{organization}/available                                       401 404 ok  ok  ok  ok  ok  404 401 403 404
GET /projects/{organization}/{project}                                       404 404 ok  ok  ok  ok  ok  404 404 404 404
PATCH /projects/{organization}/{project}                                     401 404 403 ok  ok  403 ok  404 401 403 404
DELETE /projects/{organization}/{project}                                    401 404 403 ok  ok  403 ok  404 401 403 404
POST /projects/{organization}/{project}/active                               401 404 403 ok  ok  403 ok  404 401 403 404
DELETE /projects/{organization}/{project}/active                             401 404 403 ok  ok  403 ok  404 401 403 404
POST /projects/{organization}/{project}/transfer                             401 404 403 404 ok  403 404 404 401 403 404
POST /projects/{organization}/{project}/check-repository                     401 404 403 ok  ok  403 ok  404 401 403 404
POST /projects/{organization}/{project}/evaluate                             401 404 403 ok  ok  ok  ok  404 401 403 404
GET /projects/{organization}/{project}/evaluations                           404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /projects/{organization}/{project}/details                               404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /projects/{organization}/{project}/entry-points                          404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /projects/{organization}/{project}/latest                                404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /projects/{organization}/{project}/live                                  404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /commits/{commit}                                                        404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /projects/{organization}/{project}/metrics                               404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /metrics/projects/{organization}/{project}/evaluations                   404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /projects/{organization}/{project}/entry-point-metrics                   404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /metrics/projects/{organization}/{project}/entry-point                   404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /projects/{organization}/{project}/entry-point-downloads                 404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /projects/{organization}/{project}/badge                                 404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /orgs/{organization}/hosts                                               401 404 ok  ok  ok  ok  ok  404 401 403 404
GET /projects/{organization}/{project}/hosts                                 401 404 ok  ok  ok  ok  ok  404 401 403 404
GET /projects/{organization}/{project}/hosts/{host}                          401 404 ok  ok  ok  ok  ok  404 401 403 404
DELETE /projects/{organization}/{project}/hosts/{host}                       401 404 403 ok  ok  403 ok  404 401 403 404
GET /projects/{organization}/{project}/hosts/{host}/wanted                   404 404 ok  ok  ok  ok  ok  404 404 404 404
POST /projects/{organization}/{project}/hosts/{host}/reports                 401 404 403 ok  ok  403 ok  404 401 403 404
GET /projects/{organization}/{project}/hosts/{host}/history                  401 404 ok  ok  ok  ok  ok  404 401 403 404
POST /projects/{organization}/{project}/hosts/{host}/release                 401 404 403 ok  ok  ok  ok  404 401 403 404
GET /projects/{organization}/{project}/deployments                           401 404 ok  ok  ok  ok  ok  404 401 403 404
POST /projects/{organization}/{project}/deployments/{build}/hold             401 404 403 ok  ok  ok  ok  404 401 403 404
POST /projects/{organization}/{project}/deployments/{build}/release          401 404 403 ok  ok  ok  ok  404 401 403 404
GET /projects/{organization}/{project}/flake-inputs                          401 404 ok  ok  ok  ok  ok  404 401 403 404
POST /projects/{organization}/{project}/flake-inputs                         401 404 403 ok  ok  403 ok  404 401 403 404
GET /projects/{organization}/{project}/flake-inputs/{input}                  401 404 ok  ok  ok  ok  ok  404 401 403 404
PATCH /projects/{organization}/{project}/flake-inputs/{input}                401 404 403 ok  ok  403 ok  404 401 403 404
DELETE /projects/{organization}/{project}/flake-inputs/{input}               401 404 403 ok  ok  403 ok  404 401 403 404
GET /projects/{organization}/{project}/triggers                              401 404 ok  ok  ok  ok  ok  404 401 403 404
POST /projects/{organization}/{project}/triggers                             401 404 403 ok  ok  403 ok  404 401 403 404
GET /projects/{organization}/{project}/triggers/{trigger}                    401 404 ok  ok  ok  ok  ok  404 401 403 404
PATCH /projects/{organization}/{project}/triggers/{trigger}                  401 404 403 ok  ok  403 ok  404 401 403 404
DELETE /projects/{organization}/{project}/triggers/{trigger}                 401 404 403 ok  ok  403 ok  404 401 403 404
POST /projects/{organization}/{project}/triggers/{trigger}/test              401 404 403 ok  ok  ok  ok  404 401 403 404
GET /projects/{organization}/{project}/actions                               401 404 ok  ok  ok  ok  ok  404 401 403 404
POST /projects/{organization}/{project}/actions                              401 404 403 ok  ok  403 ok  404 401 403 404
GET /projects/{organization}/{project}/actions/{action}                      401 404 ok  ok  ok  ok  ok  404 401 403 404
PATCH /projects/{organization}/{project}/actions/{action}                    401 404 403 ok  ok  403 ok  404 401 403 404
DELETE /projects/{organization}/{project}/actions/{action}                   401 404 403 ok  ok  403 ok  404 401 403 404
POST /projects/{organization}/{project}/actions/{action}/test                401 404 403 ok  ok  403 ok  404 401 403 404
POST /projects/{organization}/{project}/actions/{action}/regenerate-token    401 404 403 ok  ok  403 ok  404 401 403 404
GET /projects/{organization}/{project}/actions/{action}/deliveries           401 404 ok  ok  ok  ok  ok  404 401 403 404
GET /projects/{organization}/{project}/actions/{action}/deliveries/{delivery} 401 404 403 ok ok 403 ok 404 401 403 404
GET /evals/{evaluation}                                                      404 404 ok  ok  ok  ok  ok  404 404 404 404
POST /evals/{evaluation}                                                     401 404 403 ok  ok  ok  ok  404 401 403 404
GET /evals/{evaluation}/builds                                               404 404 ok  ok  ok  ok  ok  404 404 404 404
POST /evals/{evaluation}/builds                                              401 404 ok  ok  ok  ok  ok  404 401 403 404
GET /evals/{evaluation}/messages                                             404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /evals/{evaluation}/artefacts                                            404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /evals/{evaluation}/closure                                              404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /evals/{evaluation}/runtime-closure                                      404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /evals/{evaluation}/flake-graph                                          404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /evals/{evaluation}/verdict                                              404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /evals/{evaluation}/compare/{other}                                      404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /evals/{evaluation}/live                                                 404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /builds/{build}                                                          404 404 ok  ok  ok  ok  ok  404 404 404 404
POST /builds/{build}                                                         401 404 403 ok  ok  ok  ok  404 401 403 404
GET /builds/{build}/dependencies                                             404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /builds/{build}/graph                                                    404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /builds/{build}/closure                                                  404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /builds/{build}/runtime-closure                                          404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /builds/{build}/live                                                     404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /builds/{build}/log                                                      404 404 ok  ok  ok  ok  ok  404 404 404 404
POST /builds/{build}/log                                                     401 404 ok  ok  ok  ok  ok  404 401 403 404
GET /builds/{build}/log/chunks                                               404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /builds/{build}/log/chunk/{index}                                        404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /builds/{build}/log/lines                                                404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /builds/{build}/log/search                                               404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /builds/{build}/downloads                                                404 404 ok  ok  ok  ok  ok  404 404 404 404
GET /builds/{build}/download-token                                           401 404 ok  ok  ok  ok  ok  404 401 403 404
GET /builds/{build}/download/{file}                                          404 404 ok  ok  ok  ok  ok  404 404 404 404
POST /build-requests/manifest                                                401 404 403 ok  ok  ok  ok  404 401 403 404
POST /build-requests/{request}/blobs                                         401 404 404 404 ok  404 ok  404 401 403 404
POST /build-requests/{request}/dispatch                                      401 404 404 404 ok  404 ok  404 401 403 404
POST /build-requests/source                                                  401 404 403 ok  ok  ok  ok  404 401 403 404
PUT /build-requests/source/{upload}/chunk                                    401 ok  ok  ok  ok  ok  ok  ok  401 403 ok
POST /build-requests/source/{upload}/finalize                                401 404 403 ok  ok  ok  ok  404 401 403 404
GET /caches                                                                  401 ok  ok  ok  ok  ok  ok  ok  401 403 ok
PUT /caches                                                                  401 ok  ok  ok  ok  ok  403 403 401 403 ok
GET /caches/available                                                        401 ok  ok  ok  ok  ok  ok  ok  401 403 ok
GET /caches/public                                                           ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /caches/{cache}                                                          404 404 ok  ok  ok  ok  ok  ok  404 404 404
PATCH /caches/{cache}                                                        401 404 403 403 ok  403 ok  ok  401 403 404
DELETE /caches/{cache}                                                       401 404 403 403 ok  403 ok  ok  401 403 404
POST /caches/{cache}/active                                                  401 404 403 403 ok  403 ok  ok  401 403 404
DELETE /caches/{cache}/active                                                401 404 403 403 ok  403 ok  ok  401 403 404
POST /caches/{cache}/public                                                  401 404 403 403 ok  403 ok  ok  401 403 404
DELETE /caches/{cache}/public                                                401 404 403 403 ok  403 ok  ok  401 403 404
GET /caches/{cache}/public-key                                               404 404 ok  ok  ok  ok  ok  ok  404 404 404
GET /caches/{cache}/members                                                  401 404 ok  ok  ok  ok  ok  ok  401 403 404
POST /caches/{cache}/members                                                 401 404 403 403 ok  403 ok  ok  401 403 404
PATCH /caches/{cache}/members                                                401 404 403 403 ok  403 ok  ok  401 403 404
DELETE /caches/{cache}/members                                               401 404 403 403 ok  403 ok  ok  401 403 404
DELETE /caches/{cache}/members/{user}                                        401 404 403 403 ok  403 ok  ok  401 403 404
GET /caches/{cache}/roles                                                    401 404 ok  ok  ok  ok  ok  ok  401 403 404
POST /caches/{cache}/roles                                                   401 404 403 403 ok  403 ok  ok  401 403 404
GET /caches/{cache}/roles/{role}                                             401 404 ok  ok  ok  ok  ok  ok  401 403 404
PATCH /caches/{cache}/roles/{role}                                           401 404 403 403 ok  403 ok  ok  401 403 404
DELETE /caches/{cache}/roles/{role}                                          401 404 403 403 ok  403 ok  ok  401 403 404
GET /caches/{cache}/audit-log                                                401 404 403 403 ok  403 ok  ok  401 403 404
GET /caches/{cache}/key                                                      401 404 403 403 ok  ok  ok  ok  401 403 404
GET /caches/{cache}/keys                                                     404 404 ok  ok  ok  ok  ok  ok  404 404 404
POST /caches/{cache}/keys                                                    401 404 403 403 ok  ok  ok  ok  401 403 404
POST /caches/{cache}/keys/rotate                                             401 404 403 403 ok  ok  ok  ok  401 403 404
POST /caches/{cache}/keys/{key}/retire                                       401 404 403 403 ok  ok  ok  ok  401 403 404
DELETE /caches/{cache}/keys/{key}                                            401 404 403 403 ok  ok  ok  ok  401 403 404
GET /caches/{cache}/upstreams                                                404 404 ok  ok  ok  ok  ok  ok  404 404 404
PUT /caches/{cache}/upstreams                                                401 404 403 403 ok  403 ok  ok  401 403 404
PATCH /caches/{cache}/upstreams/{upstream}                                   401 404 403 403 ok  403 ok  ok  401 403 404
DELETE /caches/{cache}/upstreams/{upstream}                                  401 404 403 403 ok  403 ok  ok  401 403 404
GET /caches/{cache}/stats                                                    404 404 ok  ok  ok  ok  ok  ok  404 404 404
GET /caches/{cache}/nars                                                     404 404 ok  ok  ok  ok  ok  ok  404 404 404
GET /caches/{cache}/nars/stats                                               404 404 ok  ok  ok  ok  ok  ok  404 404 404
GET /caches/{cache}/nars/available                                           404 404 ok  ok  ok  ok  ok  ok  404 404 404
GET /caches/{cache}/nars/{hash}                                              404 404 ok  ok  ok  ok  ok  ok  404 404 404
POST /caches/{cache}/nars                                                    401 404 403 ok  ok  403 ok  ok  401 403 404
POST /caches/{cache}/nars/missing                                            401 404 403 ok  ok  403 ok  ok  401 403 404
GET /caches/{cache}/nars/{hash}/chunk                                        401 404 403 ok  ok  403 ok  ok  401 403 404
PUT /caches/{cache}/nars/{hash}/chunk                                        401 404 403 ok  ok  403 ok  ok  401 403 404
POST /caches/{cache}/nars/{hash}/finalize                                    401 404 403 ok  ok  403 ok  ok  401 403 404
POST /caches/{cache}/nars/{hash}/presigned                                   401 404 403 ok  ok  403 ok  ok  401 403 404
DELETE /caches/{cache}/nars/{hash}/presigned                                 401 404 403 ok  ok  403 ok  ok  401 403 404
POST /caches/{cache}/nars/{hash}/presigned/complete                          401 404 403 ok  ok  403 ok  ok  401 403 404
POST /caches/{cache}/closures                                                401 404 403 ok  ok  403 ok  ok  401 403 404
GET /caches/{cache}/retention/preview                                        401 404 403 403 ok  403 ok  ok  401 403 404
GET /caches/{cache}/nars/{hash}/why                                          401 404 403 403 ok  403 ok  ok  401 403 404
DELETE /caches/{cache}/nars/{hash}                                           401 404 403 ok  ok  403 ok  ok  401 403 404
GET /caches/{cache}/pins                                                     404 404 ok  ok  ok  ok  ok  ok  404 404 404
GET /caches/{cache}/pins/{pin}                                               404 404 ok  ok  ok  ok  ok  ok  404 404 404
PUT /caches/{cache}/pins/{pin}                                               401 404 403 ok  ok  403 ok  ok  401 403 404
DELETE /caches/{cache}/pins/{pin}                                            401 404 403 ok  ok  403 ok  ok  401 403 404
DELETE /caches/{cache}/pins/{pin}/{revision}                                 401 404 403 ok  ok  403 ok  ok  401 403 404
GET /caches/{cache}/blocked                                                  401 404 403 403 ok  403 ok  ok  401 403 404
PUT /caches/{cache}/blocked/{path}                                           401 404 403 403 ok  403 ok  ok  401 403 404
DELETE /caches/{cache}/blocked/{path}                                        401 404 403 403 ok  403 ok  ok  401 403 404
GET /board/jobs/dispatched                                                   ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /board/jobs/pending                                                      ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /board/jobs/{job}                                                        404 404 ok  ok  ok  ok  ok  404 404 404 ok
GET /board/cache/upstreams                                                   ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /board/scoring/rules                                                     ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /board/scoring/summary                                                   ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  ok
GET /admin/workers                                                           401 403 403 403 403 403 403 403 401 403 ok
POST /admin/draining                                                         401 403 403 403 403 403 403 403 401 403 ok
GET /admin/state                                                             401 403 403 403 403 403 403 403 401 403 ok
POST /admin/maintenance/verify                                               401 403 403 403 403 403 403 403 401 403 ok
POST /admin/maintenance/repair                                               401 403 403 403 403 403 403 403 401 403 ok
POST /admin/maintenance/deep-gc                                              401 403 403 403 403 403 403 403 401 403 ok
GET /admin/integrity                                                         401 403 403 403 403 403 403 403 401 403 ok
GET /admin/tasks                                                             401 403 403 403 403 403 403 403 401 403 ok
GET /admin/tasks/{task}                                                      401 403 403 403 403 403 403 403 401 403 ok
POST /admin/tasks/{task}/cancel                                              401 403 403 403 403 403 403 403 401 403 ok
`;
