import type { RouteName } from "#core/api/openapi/route.ts";
import type { Routes } from "#core/api/openapi/routes.ts";
import { PASSWORD } from "#test/handlers/support.ts";
import { type ActorName, type Asking, BLOB, BLOCKED, WORKER_ID, type World } from "./world.ts";

/** A request that does what its route is for, in the world of these tests. */
export interface Example {
  /** Who may; without it the admin of the organization and the cache. */
  readonly as?: ActorName;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** The parts of a form, or bytes. */
  readonly form?: Readonly<Record<string, string>>;
  readonly bytes?: Uint8Array<ArrayBuffer>;
  /** What stands in the path, where it is not what the world has under that name. */
  readonly path?: Readonly<Record<string, string>>;
  /** The status, where the world lacks what success would take: a repository, storage with URLs, a second instance. */
  readonly refused?: number;
}

const NAME = { name: "another", display_name: "Another" };
const HASH = "2".repeat(32);
const KEY = "other-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
const NAR_INFO = { store_path: `/nix/store/${HASH}-thing`, nar_hash: `sha256:${"0".repeat(52)}`, nar_size: 120 };
const ORGANIZATION = { organization: "acme" };
const ACTION = { name: "another", config: { type: "send_web_request", url: "https://hooks.example.com/" } };
const ATTRIBUTE = { eval: "packages.x86_64-linux.site" };
const AS_ROOT = { as: "superuser" } as const;

/** One for each route: where one is missing, this does not compile. */
export function examplesOf(world: World): Readonly<Record<keyof Routes, Example>> {
  const { present } = world;
  const USER_CODE = { user_code: present.userCode ?? "" };
  const CACHE_KEY = { key: present.cacheKey ?? "" };
  const CACHE_ROLE = { role: present.cacheRole ?? "" };
  return {
    "GET /health": {},
    "GET /config": {},
    "GET /openapi.json": {},
    "GET /docs": {},
    "POST /auth/basic/register": {
      body: { username: "newcomer", name: "New Comer", email: "new@example.com", password: PASSWORD },
    },
    "POST /auth/basic/login": { body: { loginname: "ada", password: PASSWORD } },
    "POST /auth/check-username": { body: { username: "newcomer" } },
    "GET /auth/verify-email": { query: { token: "0".repeat(64) }, refused: 400 },
    "POST /auth/resend-verification": { body: { username: "ada" }, refused: 400 },
    "POST /auth/password-reset": { body: { loginname: "ada" }, refused: 400 },
    "POST /auth/password-reset/confirm": { body: { token: "0".repeat(64), password: PASSWORD }, refused: 400 },
    "POST /auth/logout": {},
    "GET /auth/oidc/login": { refused: 400 },
    "GET /auth/oidc/callback": { query: { code: "x", state: "x" }, refused: 400 },
    "POST /auth/oauth/authorize": { refused: 400 },
    "GET /auth/oauth/authorize": { query: { code: "x", state: "x" }, refused: 400 },
    "POST /auth/cli/start": {},
    "POST /auth/cli/poll": { body: { device_code: present.deviceCode }, refused: 400 },
    "GET /auth/cli/info": { query: USER_CODE },
    "POST /auth/cli/authorize": { body: USER_CODE },
    "POST /auth/cli/deny": { body: USER_CODE },
    "GET /user": {},
    "DELETE /user": { body: { password: PASSWORD }, as: "stranger" },
    "GET /user/search": { query: { q: "a" } },
    "GET /user/settings": {},
    "PATCH /user/settings": { body: { name: "Another" } },
    "POST /user/password": { body: { current_password: PASSWORD, new_password: `${PASSWORD}y` } },
    "GET /user/sessions": {},
    "DELETE /user/sessions": {},
    "DELETE /user/sessions/{session}": {},
    "GET /user/audit-log": {},
    "GET /user/keys": {},
    "POST /user/keys": { body: { name: "fresh", permissions: ["viewOrg"] } },
    "DELETE /user/keys": { body: { name: "pinned" } },
    "GET /user/keys/permissions": {},
    "PATCH /user/keys/{key}": { body: { name: "renamed" } },
    "POST /user/keys/{key}/revoke": {},
    "GET /orgs": {},
    "PUT /orgs": { body: NAME },
    "GET /orgs/available": { query: { name: "another" } },
    "GET /orgs/public": {},
    "GET /orgs/{organization}": {},
    "PATCH /orgs/{organization}": { body: { display_name: "Another" } },
    "DELETE /orgs/{organization}": {},
    "POST /orgs/{organization}/public": {},
    "DELETE /orgs/{organization}/public": {},
    "GET /orgs/{organization}/users": {},
    "POST /orgs/{organization}/users": { body: { user: "stan", role: "View" } },
    "PATCH /orgs/{organization}/users": { body: { user: "vera", role: "Write" } },
    "DELETE /orgs/{organization}/users": { body: { user: "vera" } },
    "GET /orgs/{organization}/ssh": {},
    "POST /orgs/{organization}/ssh": {},
    "GET /orgs/{organization}/forge-webhook-secret": {},
    "POST /orgs/{organization}/forge-webhook-secret": {},
    "DELETE /orgs/{organization}/forge-webhook-secret": {},
    "GET /orgs/{organization}/roles": {},
    "POST /orgs/{organization}/roles": { body: { name: "reader", permissions: ["viewOrg"] } },
    "GET /orgs/{organization}/roles/{role}": {},
    "PATCH /orgs/{organization}/roles/{role}": { body: { permissions: ["viewOrg"] } },
    "DELETE /orgs/{organization}/roles/{role}": { path: { role: present.spareRole ?? "" } },
    "GET /orgs/{organization}/audit-log": {},
    "GET /orgs/{organization}/integrations": {},
    "PUT /orgs/{organization}/integrations": {
      body: { name: "another", kind: "inbound", forge_type: "gitea", secret: "a secret of a forge" },
    },
    "GET /orgs/{organization}/integrations/summary": {},
    "GET /orgs/{organization}/integrations/{integration}": {},
    "PATCH /orgs/{organization}/integrations/{integration}": { body: { display_name: "Another" } },
    "DELETE /orgs/{organization}/integrations/{integration}": {},
    "GET /orgs/{organization}/subscribe": {},
    "POST /orgs/{organization}/subscribe/{cache}": { path: { cache: "spare" } },
    "DELETE /orgs/{organization}/subscribe/{cache}": {},
    "GET /orgs/{organization}/workers": {},
    "POST /orgs/{organization}/workers": { body: { worker_id: WORKER_ID.replace(/1$/, "2"), display_name: "Second" } },
    "PATCH /orgs/{organization}/workers/{worker}": { body: { display_name: "Renamed" } },
    "DELETE /orgs/{organization}/workers/{worker}": {},
    "GET /orgs/{organization}/workers/{worker}/metrics": {},
    "POST /orgs/{organization}/workers/{worker}/test": {},
    "GET /projects/{organization}": {},
    "PUT /projects/{organization}": {
      body: { ...NAME, repository: "https://example.com/another.git", wildcard: "packages.*.*" },
    },
    "GET /projects/{organization}/available": { query: { name: "another" } },
    "GET /projects/{organization}/{project}": {},
    "PATCH /projects/{organization}/{project}": { body: { display_name: "Another" } },
    "DELETE /projects/{organization}/{project}": {},
    "POST /projects/{organization}/{project}/active": {},
    "DELETE /projects/{organization}/{project}/active": {},
    "POST /projects/{organization}/{project}/transfer": { body: { organization: "second-org" } },
    "POST /projects/{organization}/{project}/check-repository": {},
    "POST /projects/{organization}/{project}/evaluate": { body: {} },
    "GET /projects/{organization}/{project}/evaluations": {},
    "GET /projects/{organization}/{project}/details": {},
    "GET /projects/{organization}/{project}/entry-points": { query: { evaluation_id: present.evaluation ?? "" } },
    "GET /projects/{organization}/{project}/latest": {},
    "GET /projects/{organization}/{project}/live": {},
    "GET /commits/{commit}": {},
    "GET /projects/{organization}/{project}/metrics": {},
    "GET /metrics/projects/{organization}/{project}/evaluations": {},
    "GET /projects/{organization}/{project}/entry-point-metrics": { query: ATTRIBUTE },
    "GET /metrics/projects/{organization}/{project}/entry-point": { query: ATTRIBUTE },
    "GET /projects/{organization}/{project}/entry-point-downloads": { query: { ...ATTRIBUTE, filename: "site.iso" } },
    "GET /projects/{organization}/{project}/badge": {},
    "GET /projects/{organization}/{project}/triggers": {},
    "POST /projects/{organization}/{project}/triggers": { body: { config: { type: "time", cron: "0 0 3 * * *" } } },
    "GET /projects/{organization}/{project}/triggers/{trigger}": {},
    "PATCH /projects/{organization}/{project}/triggers/{trigger}": { body: { active: false } },
    "DELETE /projects/{organization}/{project}/triggers/{trigger}": {},
    "POST /projects/{organization}/{project}/triggers/{trigger}/test": {},
    "GET /projects/{organization}/{project}/flake-inputs": {},
    "POST /projects/{organization}/{project}/flake-inputs": { body: { input_name: "another" } },
    "GET /projects/{organization}/{project}/flake-inputs/{input}": {},
    "PATCH /projects/{organization}/{project}/flake-inputs/{input}": { body: { url: "github:NixOS/nixpkgs" } },
    "DELETE /projects/{organization}/{project}/flake-inputs/{input}": {},
    "GET /projects/{organization}/{project}/actions": {},
    "POST /projects/{organization}/{project}/actions": { body: ACTION },
    "GET /projects/{organization}/{project}/actions/{action}": {},
    "PATCH /projects/{organization}/{project}/actions/{action}": { body: { active: false } },
    "DELETE /projects/{organization}/{project}/actions/{action}": {},
    "POST /projects/{organization}/{project}/actions/{action}/test": { refused: 503 },
    "POST /projects/{organization}/{project}/actions/{action}/regenerate-token": {},
    "GET /projects/{organization}/{project}/actions/{action}/deliveries": {},
    "GET /projects/{organization}/{project}/actions/{action}/deliveries/{delivery}": {},
    "GET /evals/{evaluation}": {},
    "POST /evals/{evaluation}": { body: { method: "bump", priority: 3 }, refused: 409 },
    "GET /evals/{evaluation}/builds": {},
    "POST /evals/{evaluation}/builds": {},
    "GET /evals/{evaluation}/messages": {},
    "GET /evals/{evaluation}/artefacts": {},
    "GET /evals/{evaluation}/closure": {},
    "GET /evals/{evaluation}/runtime-closure": {},
    "GET /evals/{evaluation}/flake-graph": {},
    "GET /evals/{evaluation}/verdict": {},
    "GET /evals/{evaluation}/compare/{other}": {},
    "GET /evals/{evaluation}/live": {},
    "GET /builds/{build}": {},
    "POST /builds/{build}": { body: { method: "bump" }, refused: 409 },
    "GET /builds/{build}/dependencies": {},
    "GET /builds/{build}/graph": {},
    "GET /builds/{build}/closure": {},
    "GET /builds/{build}/runtime-closure": {},
    "GET /builds/{build}/live": {},
    "GET /builds/{build}/log": {},
    "POST /builds/{build}/log": {},
    "GET /builds/{build}/log/chunks": {},
    "GET /builds/{build}/log/chunk/{index}": {},
    "GET /builds/{build}/log/lines": { query: { start: "1", end: "2" } },
    "GET /builds/{build}/log/search": { query: { q: "line" } },
    "GET /builds/{build}/downloads": {},
    "GET /builds/{build}/download-token": {},
    "GET /builds/{build}/download/{file}": {},
    "POST /build-requests/manifest": {
      body: { ...ORGANIZATION, files: [{ path: "flake.nix", hash: "0".repeat(64), size: 3 }] },
    },
    "POST /build-requests/{request}/blobs": { form: { [present.blob ?? ""]: BLOB } },
    "POST /build-requests/{request}/dispatch": { path: { request: present.complete ?? "" }, body: {} },
    "POST /build-requests/source": { query: ORGANIZATION, form: { nar: "no NAR" }, refused: 400 },
    "PUT /build-requests/source/{upload}/chunk": { query: { offset: "0" }, bytes: new Uint8Array(8) },
    "POST /build-requests/source/{upload}/finalize": { query: ORGANIZATION, body: {}, refused: 404 },
    "GET /caches": {},
    "PUT /caches": { body: NAME },
    "GET /caches/available": { query: { name: "another" } },
    "GET /caches/public": {},
    "GET /caches/{cache}": {},
    "PATCH /caches/{cache}": { body: { display_name: "Another" } },
    "DELETE /caches/{cache}": {},
    "POST /caches/{cache}/active": {},
    "DELETE /caches/{cache}/active": {},
    "POST /caches/{cache}/public": {},
    "DELETE /caches/{cache}/public": {},
    "GET /caches/{cache}/public-key": {},
    "GET /caches/{cache}/members": {},
    "POST /caches/{cache}/members": { body: { user: "stan", role: "View" } },
    "PATCH /caches/{cache}/members": { body: { user: "vera", role: "Write" } },
    "DELETE /caches/{cache}/members": { body: { user: "vera" } },
    "DELETE /caches/{cache}/members/{user}": {},
    "GET /caches/{cache}/roles": {},
    "POST /caches/{cache}/roles": { body: { name: "reader", permissions: ["viewCache"] } },
    "GET /caches/{cache}/roles/{role}": { path: CACHE_ROLE },
    "PATCH /caches/{cache}/roles/{role}": { path: CACHE_ROLE, body: { name: "other-keeper" } },
    "DELETE /caches/{cache}/roles/{role}": { path: { role: present.spareCacheRole ?? "" } },
    "GET /caches/{cache}/audit-log": {},
    "GET /caches/{cache}/key": {},
    "GET /caches/{cache}/keys": {},
    "POST /caches/{cache}/keys": { body: { secret_key: "no key" }, refused: 400 },
    "POST /caches/{cache}/keys/rotate": {},
    "POST /caches/{cache}/keys/{key}/retire": { path: CACHE_KEY, refused: 409 },
    "DELETE /caches/{cache}/keys/{key}": { path: CACHE_KEY, refused: 409 },
    "GET /caches/{cache}/upstreams": {},
    "PUT /caches/{cache}/upstreams": {
      body: { type: "http", display_name: "Other", url: "https://cache.example.org", public_key: KEY },
    },
    "PATCH /caches/{cache}/upstreams/{upstream}": { body: { display_name: "Another" } },
    "DELETE /caches/{cache}/upstreams/{upstream}": {},
    "GET /caches/{cache}/stats": {},
    "GET /caches/{cache}/nars": {},
    "GET /caches/{cache}/nars/stats": {},
    "GET /caches/{cache}/nars/available": { query: { hash: HASH } },
    "GET /caches/{cache}/nars/{hash}": {},
    "POST /caches/{cache}/nars": { form: { narinfo: JSON.stringify(NAR_INFO), nar: "no NAR" }, refused: 415 },
    "POST /caches/{cache}/nars/missing": { body: { paths: [{ store_path: NAR_INFO.store_path }] } },
    "GET /caches/{cache}/nars/{hash}/chunk": { path: { hash: HASH } },
    "PUT /caches/{cache}/nars/{hash}/chunk": {
      path: { hash: HASH },
      query: { offset: "0" },
      bytes: new Uint8Array(8),
    },
    "POST /caches/{cache}/nars/{hash}/finalize": { path: { hash: HASH }, body: NAR_INFO, refused: 409 },
    "POST /caches/{cache}/nars/{hash}/presigned": { path: { hash: HASH }, body: { file_size: 8 }, refused: 422 },
    "DELETE /caches/{cache}/nars/{hash}/presigned": { path: { hash: HASH } },
    "POST /caches/{cache}/nars/{hash}/presigned/complete": {
      path: { hash: HASH },
      body: { path: NAR_INFO, parts: [{ number: 1, etag: "x" }] },
      refused: 422,
    },
    "POST /caches/{cache}/closures": { body: { paths: [NAR_INFO] }, refused: 409 },
    "GET /caches/{cache}/retention/preview": {},
    "GET /caches/{cache}/nars/{hash}/why": {},
    "DELETE /caches/{cache}/nars/{hash}": { refused: 409 },
    "GET /caches/{cache}/pins": {},
    "GET /caches/{cache}/pins/{pin}": {},
    "PUT /caches/{cache}/pins/{pin}": { body: { store_path: present.path } },
    "DELETE /caches/{cache}/pins/{pin}": {},
    "DELETE /caches/{cache}/pins/{pin}/{revision}": {},
    "GET /caches/{cache}/blocked": {},
    "PUT /caches/{cache}/blocked/{path}": { path: { path: HASH }, body: { reason: "not wanted" } },
    "DELETE /caches/{cache}/blocked/{path}": { path: { path: BLOCKED } },
    "GET /board/jobs/dispatched": {},
    "GET /board/jobs/pending": {},
    "GET /board/jobs/{job}": {},
    "GET /board/cache/upstreams": {},
    "GET /board/scoring/rules": {},
    "GET /board/scoring/summary": {},
    "GET /admin/workers": AS_ROOT,
    "POST /admin/draining": { ...AS_ROOT, body: { enabled: true } },
    "GET /admin/state": AS_ROOT,
    "POST /admin/maintenance/verify": { ...AS_ROOT, body: {} },
    "POST /admin/maintenance/repair": { ...AS_ROOT, refused: 409 },
    "POST /admin/maintenance/deep-gc": { ...AS_ROOT, body: {} },
    "GET /admin/integrity": AS_ROOT,
    "GET /admin/tasks": AS_ROOT,
    "GET /admin/tasks/{task}": AS_ROOT,
    "POST /admin/tasks/{task}/cancel": AS_ROOT,
  };
}

/** The request of an example, with the names in its path replaced by those of things that exist, or do not. */
export function askingOf(
  route: RouteName,
  { path = {}, query, body, form, bytes }: Example,
  things: Readonly<Record<string, string>>,
): Asking {
  const [method = "", template = ""] = route.split(" ");
  const values = { ...things, ...path };
  const filled = template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`${route}: the world of the tests has no {${name}}`);
    return encodeURIComponent(value);
  });
  const search = query ? `?${new URLSearchParams(query)}` : "";
  const asking = { method, path: `${filled}${search}` };
  if (form) return { ...asking, body: formOf(form) };
  if (bytes) return { ...asking, body: bytes, headers: { "content-type": "application/octet-stream" } };
  if (body === undefined) return asking;
  return { ...asking, body: JSON.stringify(body), headers: { "content-type": "application/json" } };
}

function formOf(parts: Readonly<Record<string, string>>): FormData {
  const data = new FormData();
  for (const [name, text] of Object.entries(parts)) {
    if (name === "narinfo") data.append(name, text);
    else data.append(name, new Blob([text]), name);
  }
  return data;
}
