import { insertCache } from "#core/db/caches.ts";
import { DEFAULT_RETRY_POLICY } from "#core/domain/failure.ts";
import {
  CACHE_PERMISSIONS,
  CACHE_ROLE,
  cacheMask,
  ORGANIZATION_PERMISSIONS,
  ORGANIZATION_ROLE,
  organizationMask,
} from "#core/domain/permissions.ts";
import { AttemptKind, AttemptOutcome, BuildStatus, EvaluationStatus } from "#core/domain/states.ts";
import { toHex, utf8 } from "#core/lib/bytes.ts";
import { makeCacheKey } from "#core/services/cache-key.ts";
import { createEvaluationControl } from "#core/services/evaluations-control.ts";
import { createKey } from "#core/services/keys.ts";
import { startSession } from "#core/services/sign-in.ts";
import { createApp } from "#handlers/app.ts";
import { nodeHasher } from "#runtime/node/hasher.ts";
import { type TestApp, type TestUser, withApp } from "#test/handlers/support.ts";
import {
  COMMIT,
  insertAttempt,
  insertBuild,
  insertEntryPoint,
  insertEvaluationRow,
  insertOrganization,
  insertProjectRow,
  linkBuild,
  newId,
  writeLogRows,
} from "#test/support/rows.ts";
import { storeTree } from "#test/support/stored-tree.ts";
import { openUndoable } from "./one-connection.ts";

/** Who asks in the table of access. */
export const ACTORS = [
  "anonymous",
  "stranger",
  "view",
  "write",
  "admin",
  "custom",
  "orgKey",
  "cacheKey",
  "expired",
  "elsewhere",
  "superuser",
] as const;
export type ActorName = (typeof ACTORS)[number];

export interface Asking {
  readonly method: string;
  /** With its names filled in, below the prefix. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: NonNullable<RequestInit["body"]> | null;
}

/** One of everything that routes name: an organization with a project, an evaluation, builds, caches, and people. */
export interface World extends AsyncDisposable {
  /** What stands for the names in a path, as it exists. */
  readonly present: Readonly<Record<string, string>>;
  /** The same, of things that do not exist. */
  readonly absent: Readonly<Record<string, string>>;
  /** The application's answer; whatever it changed is taken back. */
  ask(as: ActorName, asking: Asking): Promise<Response>;
}

export const PUBLIC = { organization: "open-org", cache: "open-cache" } as const;
const STORE_PATH = "0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c-site";
export const BLOB = "{}\n";
export const BLOCKED: string = "3".repeat(32);
export const WORKER_ID = "550e8400-e29b-41d4-a716-446655440001";

export async function makeWorld(): Promise<World> {
  const stack = new AsyncDisposableStack();
  const base = stack.use(await withApp());
  const people = await makePeople(base);
  const present = await makeThings(base, people);
  const tokens = await makeTokens(base, people);
  const undoable = stack.use(await openUndoable(base.pool));
  const deps = { ...base.deps, db: undoable.db };
  const control = createEvaluationControl({ ...deps, retry: DEFAULT_RETRY_POLICY, leaseMs: 60_000 });
  const app = createApp({ ...deps, control, git: { resolve: async () => ({ commit: "0".repeat(40), ref: "HEAD" }) } });

  return {
    present,
    absent: absentOf(present),
    ask: async (as, { method, path, headers, body = null }) => {
      const token = tokens[as];
      return await undoable.undone(async () => {
        const response = await app.request(`http://127.0.0.1:3000/api/v1${path}`, {
          method,
          headers: { ...(token && { authorization: `Bearer ${token}` }), ...headers },
          body,
        });
        // What is still to be read of the database is read before it is undone.
        const bytes = await readSome(response);
        return new Response(bytes, { status: response.status, headers: response.headers });
      });
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** A live answer ends late or never; its first part says enough. */
async function readSome(response: Response): Promise<Uint8Array<ArrayBuffer> | null> {
  if (!response.body || [101, 204, 302, 304].includes(response.status)) return null;
  const isLive = response.headers.get("x-accel-buffering") === "no";
  if (!isLive) return new Uint8Array(await response.arrayBuffer());
  const reader = response.body.getReader();
  const { value } = await reader.read();
  await reader.cancel();
  return new Uint8Array(value ?? new Uint8Array());
}

type People = Readonly<Record<"view" | "write" | "admin" | "custom" | "stranger" | "superuser", TestUser>>;

async function makePeople(app: TestApp): Promise<People> {
  return {
    admin: await app.user("ada"),
    write: await app.user("walt"),
    view: await app.user("vera"),
    custom: await app.user("carl"),
    stranger: await app.user("stan"),
    superuser: await app.user("root-user", { superuser: true }),
  };
}

async function makeThings(app: TestApp, people: People): Promise<Record<string, string>> {
  const { db } = app;
  const roles = await makeRoles(app);
  const organizationId = await insertOrganization(db, { name: "acme", members: membersOf(people, roles.role) });
  await db.updateTable("role").set({ organization_id: organizationId }).where("id", "=", roles.role).execute();
  await insertOrganization(db, { name: PUBLIC.organization, public: true });
  await insertOrganization(db, { name: "second-org", members: { [people.admin.id]: ORGANIZATION_ROLE.Admin } });
  const cacheId = await makeCaches(app, people, { organizationId, role: roles.cacheRole });
  const builds = await makeBuilds(app, { organizationId, cacheId });
  return {
    organization: "acme",
    cache: "depot",
    worker: WORKER_ID,
    role: roles.role,
    cacheRole: roles.cacheRole,
    user: "vera",
    commit: commitIdOf(COMMIT),
    hash: STORE_PATH.slice(0, 32),
    path: STORE_PATH.slice(0, 32),
    pin: "release",
    revision: "1",
    index: "0",
    file: "site.iso",
    ...builds,
    ...(await makeSettings(app, people)),
    ...(await makeRequest(app, people)),
    ...(await makeSessions(app, people)),
  };
}

function membersOf(people: People, customRole: string): Record<string, string> {
  return {
    [people.admin.id]: ORGANIZATION_ROLE.Admin,
    [people.write.id]: ORGANIZATION_ROLE.Write,
    [people.view.id]: ORGANIZATION_ROLE.View,
    [people.custom.id]: customRole,
  };
}

/** Roles with one permission beside that to view. */
async function makeRoles({ db }: TestApp): Promise<{ role: string; cacheRole: string }> {
  const [role, cacheRole] = [newId(), newId()];
  const permissions = organizationMask(["viewOrg", "triggerEvaluation"]);
  await db.insertInto("role").values({ id: role, organization_id: null, name: "starter", permissions }).execute();
  return { role, cacheRole };
}

async function makeCaches(
  app: TestApp,
  people: People,
  { organizationId, role }: { readonly organizationId: string; readonly role: string },
): Promise<string> {
  const { db } = app;
  const made = async (name: string, isPublic: boolean): Promise<string> => {
    const body = { name, display_name: "Depot", public: isPublic };
    return (await app.ask("PUT", "/caches", { token: people.admin.token, body })).body.message;
  };
  const cacheId = await made("depot", false);
  await made(PUBLIC.cache, true);
  await made("spare", false);
  const permissions = cacheMask(["viewCache", "readStore", "manageCacheKeys"]);
  await db.insertInto("cache_role").values({ id: role, cache_id: cacheId, name: "keeper", permissions }).execute();
  const members = { [people.write.id]: CACHE_ROLE.Write, [people.view.id]: CACHE_ROLE.View, [people.custom.id]: role };
  for (const [user_id, role_id] of Object.entries(members)) {
    await db.insertInto("cache_member").values({ cache_id: cacheId, user_id, role_id }).execute();
  }
  const subscription = { id: newId(), organization_id: organizationId, cache_id: cacheId, mode: 0 };
  await db.insertInto("organization_cache").values(subscription).execute();
  return cacheId;
}

/** An evaluation that succeeded: with a log, a file to download, and an assignment. */
async function makeBuilds(
  { db, deps }: TestApp,
  { organizationId, cacheId }: { readonly organizationId: string; readonly cacheId: string },
): Promise<Record<string, string>> {
  const projectId = await insertProjectRow(db, { organizationId, name: "site" });
  const evaluation = await insertEvaluationRow(db, { organizationId, projectId, status: EvaluationStatus.Completed });
  const other = await insertEvaluationRow(db, { organizationId, projectId, status: EvaluationStatus.Completed });
  const needed = await insertBuild(db, { organizationId, name: "needed", status: BuildStatus.Completed });
  const done = { organizationId, name: "site", status: BuildStatus.Completed, needs: [needed] };
  const buildId = await insertBuild(db, done);
  await db.updateTable("build_output").set({ store_path: STORE_PATH }).where("build_id", "=", buildId).execute();
  await storeTree(db, deps.blobs, { cacheId, path: STORE_PATH, tree: { entries: { "site.iso": "an image" } } });
  const product = { build_id: buildId, ordinal: 0, output: "out", type: "file", subtype: "iso", name: "site.iso" };
  await db
    .insertInto("build_product")
    .values({ ...product, path: `${STORE_PATH}/site.iso`, size: 8 })
    .execute();
  const job = await insertAttempt(db, { organizationId, buildId, ranMs: 5 });
  const ended = { kind: AttemptKind.Build, outcome: AttemptOutcome.Built };
  await db.updateTable("attempt").set(ended).where("id", "=", job).execute();
  await writeLogRows(db, job, utf8("a line\nanother line\n"));
  await linkBuild(db, evaluation, needed);
  const build = await linkBuild(db, evaluation, buildId);
  await insertEntryPoint(db, evaluation, buildId, ["packages", "x86_64-linux", "site"]);
  return { project: "site", evaluation, other, build, job };
}

/** What is made through the API: workers, flake inputs, pins, keys and tasks. */
async function makeSettings(app: TestApp, { admin, superuser }: People): Promise<Record<string, string>> {
  const ask = async (method: string, path: string, body: unknown, token = admin.token): Promise<unknown> => {
    const answer = await app.ask(method, path, { token, body });
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.text}`);
    return answer.body.message;
  };
  await ask("POST", "/orgs/acme/workers", { worker_id: WORKER_ID, display_name: "Builder" });
  const input = (await ask("POST", "/projects/acme/site/flake-inputs", { input_name: "nixpkgs" })) as { id: string };
  for (let revision = 1; revision <= 2; revision++) {
    await ask("PUT", "/caches/depot/pins/release", { store_path: STORE_PATH, keep_revisions: 2 });
  }
  const trigger = (await ask("POST", "/projects/acme/site/triggers", { config: { type: "polling" } })) as {
    id: string;
  };
  const config = { type: "send_web_request", url: "https://hooks.example.com/" };
  const { action } = (await ask("POST", "/projects/acme/site/actions", { name: "tell", config })) as {
    action: { id: string };
  };
  const forge = { name: "forge", kind: "inbound", forge_type: "gitea", secret: "a secret of a forge" };
  const integration = (await ask("PUT", "/orgs/acme/integrations", forge)) as string;
  const role = { name: "spare", permissions: ["viewOrg"] };
  const spareRole = (await ask("POST", "/orgs/acme/roles", role)) as { id: string };
  const cacheRole = { name: "spare", permissions: ["viewCache"] };
  const spareCacheRole = (await ask("POST", "/caches/depot/roles", cacheRole)) as { id: string };
  const [upstream] = (await ask("GET", "/caches/depot/upstreams", undefined)) as [{ id: string }];
  const [key] = (await ask("GET", "/caches/depot/keys", undefined)) as [{ id: string }];
  const task = (await ask("POST", "/admin/maintenance/repair", {}, superuser.token)) as { task_id: string };
  const apiKey = { name: "own", permissions: ["viewOrg"] };
  await ask("POST", "/user/keys", apiKey);
  const [own] = (await ask("GET", "/user/keys", undefined)) as [{ id: string }];
  await ask("PUT", `/caches/depot/blocked/${BLOCKED}`, { reason: "not wanted" });
  return {
    input: input.id,
    trigger: trigger.id,
    action: action.id,
    delivery: await insertDelivery(app, action.id),
    integration,
    spareRole: spareRole.id,
    spareCacheRole: spareCacheRole.id,
    upstream: upstream.id,
    cacheKey: key.id,
    key: own.id,
    task: task.task_id,
  };
}

async function insertDelivery({ db }: TestApp, action_id: string): Promise<string> {
  const id = newId();
  const facts = JSON.stringify({});
  const done = { delivered_at: new Date(), success: true, response_status: 204, response_body: "", duration_ms: 7 };
  await db
    .insertInto("action_delivery")
    .values({ id, action_id, event: "evaluation.completed", facts, ...done })
    .execute();
  return id;
}

/** A source of which one file is still to be sent, and the place of one that is sent in parts. */
async function makeRequest(app: TestApp, { admin }: People): Promise<Record<string, string>> {
  const { id } = await app.db
    .selectFrom("organization")
    .select("id")
    .where("name", "=", "acme")
    .executeTakeFirstOrThrow();
  const store = { id: newId(), kind: 1, organization_id: id, display_name: "", description: "" };
  await insertCache(app.db, { ...store, ...(await makeCacheKey(app.deps, store.id, "acme-internal")) });
  const open = async (text: string): Promise<{ session: string; hash: string }> => {
    const hash = await blobHashOf(text);
    const body = { organization: "acme", files: [{ path: "flake.nix", hash, size: text.length }] };
    const { message } = (await app.ask("POST", "/build-requests/manifest", { token: admin.token, body })).body;
    return { hash, session: (message as { session: string }).session };
  };
  const [waiting, complete] = [await open(BLOB), await open("{ }")];
  const form = new FormData();
  form.append(complete.hash, new Blob(["{ }"]), "content");
  const address = `http://127.0.0.1:3000/api/v1/build-requests/${complete.session}/blobs`;
  await app.app.request(address, { method: "POST", body: form, headers: { authorization: `Bearer ${admin.token}` } });
  return { request: waiting.session, complete: complete.session, blob: waiting.hash, upload: newId() };
}

async function blobHashOf(text: string): Promise<string> {
  const hash = await nodeHasher.blake3();
  hash.update(utf8(text));
  return toHex(hash.digest());
}

/** Another session of the admin, and a device that asks to be let in. */
async function makeSessions(app: TestApp, { admin }: People): Promise<Record<string, string>> {
  await startSession(app.deps, admin.id, { address: "127.0.0.1", userAgent: "another" }, { remember: false });
  const session = await app.db
    .selectFrom("session")
    .select("id")
    .where("user_id", "=", admin.id)
    .where("user_agent", "=", "another")
    .executeTakeFirstOrThrow();
  const started = (await app.ask("POST", "/auth/cli/start")).body.message as { device_code: string; user_code: string };
  return { session: session.id, deviceCode: started.device_code, userCode: started.user_code };
}

/** The first 128 bits of a commit's hash. */
function commitIdOf(hash: string): string {
  return hash.slice(0, 32).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

async function makeTokens(app: TestApp, people: People): Promise<Readonly<Record<ActorName, string | null>>> {
  const { db, deps } = app;
  const key = async (name: string, more: object): Promise<string> => {
    const everything = { permissions: [...ORGANIZATION_PERMISSIONS] };
    return await createKey(deps, people.admin.actor, { name, allowed_ips: [], ...everything, ...more });
  };
  const tokens = {
    anonymous: null,
    stranger: people.stranger.token,
    view: people.view.token,
    write: people.write.token,
    admin: people.admin.token,
    custom: people.custom.token,
    orgKey: await key("pinned", { organization: "acme" }),
    cacheKey: await key("cache", { cache: "depot", permissions: [...CACHE_PERMISSIONS] }),
    expired: await key("expired", {}),
    elsewhere: await key("elsewhere", { allowed_ips: ["192.0.2.0/24"] }),
    superuser: people.superuser.token,
  };
  await db
    .updateTable("api_key")
    .set({ expires_at: new Date(1) })
    .where("name", "=", "expired")
    .execute();
  return tokens;
}

/** Names and ids of the same form. */
function absentOf(present: Readonly<Record<string, string>>): Record<string, string> {
  const stranger = (value: string) => {
    // A number says nothing of what there is; it is to be one all the same.
    if (/^[0-9]+$/.test(value)) return value;
    if (/^[0-9a-f]{8}-/.test(value)) return "01890000-0000-7000-8000-000000000000";
    return /^[0-9a-z]{32}$/.test(value) ? "1".repeat(32) : `no-${value}`;
  };
  return Object.fromEntries(Object.entries(present).map(([name, value]) => [name, stranger(value)]));
}
