import { CACHE_ROLE, cacheMask, ORGANIZATION_ROLE, organizationMask } from "#core/domain/permissions.ts";
import { AttemptKind, AttemptOutcome, BuildStatus, EvaluationStatus } from "#core/domain/states.ts";
import { utf8 } from "#core/lib/bytes.ts";
import type { TestApp } from "#test/handlers/support.ts";
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
import { PUBLIC, STORE_PATH, WORKER_ID } from "./names.ts";
import type { People } from "./people.ts";
import { commitIdOf, makeRequest, makeSessions, makeSettings, makeUpload } from "./settings.ts";

/** What stands for the names in a path, and in an example. */
export type Things = Readonly<Record<string, string>>;

export async function makeThings(app: TestApp, people: People): Promise<Things> {
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
    ...(await makeUpload()),
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
): Promise<Things> {
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
  await makeHost(db, { projectId, evaluation, buildId });
  return { project: "site", evaluation, other, build, job, host: "web" };
}

/** One that runs something, and may get what was built. */
async function makeHost(
  db: TestApp["db"],
  { projectId, evaluation, buildId }: Readonly<Record<"projectId" | "evaluation" | "buildId", string>>,
): Promise<void> {
  await db.updateTable("project").set({ deploy_branch: "main" }).where("id", "=", projectId).execute();
  await db.updateTable("evaluation").set({ branch: "main", deploys: true }).where("id", "=", evaluation).execute();
  await db.updateTable("build_output").set({ available: true }).where("build_id", "=", buildId).execute();
  await insertEntryPoint(db, evaluation, buildId, ["nixosConfigurations", "web"]);
  const runs = { running_path: STORE_PATH, running_since: new Date(0) };
  await db
    .insertInto("host")
    .values({ id: newId(), project_id: projectId, name: "web", kept_until: new Date("2100-01-01"), ...runs })
    .execute();
}

/** Names and ids of the same form. */
export function absentOf(present: Readonly<Record<string, string>>): Record<string, string> {
  const stranger = (value: string) => {
    // What is sent stays as it is.
    if (/[{\0]/.test(value)) return value;
    // A number says nothing of what there is; it is to be one all the same.
    if (/^[0-9]+$/.test(value)) return value;
    if (/^[0-9a-f]{8}-/.test(value)) return "01890000-0000-7000-8000-000000000000";
    return /^[0-9a-z]{32}$/.test(value) ? "1".repeat(32) : `no-${value}`;
  };
  return Object.fromEntries(Object.entries(present).map(([name, value]) => [name, stranger(value)]));
}
