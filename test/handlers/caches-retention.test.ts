import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { inTransaction } from "#core/db/transaction.ts";
import { formatHash } from "#core/nix/hash.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { commitPaths } from "#core/services/cache-commit.ts";
import { sweep } from "#core/services/retention-sweep.ts";
import { type StoredPath, storeFile } from "#test/cache/support.ts";
import { insertBuild, insertEvaluationRow, insertProjectRow, linkBuild, newId } from "#test/support/rows.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let t: TestApp;
let owner: TestUser;
let writer: TestUser;
let reader: TestUser;
let stranger: TestUser;
let cacheId: string;
let organizationId: string;
let projectId: string;

beforeAll(async () => {
  t = await withApp();
  owner = await t.user("Owner");
  writer = await t.user("Writer");
  reader = await t.user("Reader");
  stranger = await t.user("Stranger");
  const made = (path: string, name: string) =>
    t.ask("PUT", path, { token: owner.token, body: { name, display_name: "A name" } });
  cacheId = (await made("/caches", "main")).body.message;
  organizationId = (await made("/orgs", "team")).body.message;
  await t.db
    .insertInto("organization_cache")
    .values({ id: crypto.randomUUID(), organization_id: organizationId, cache_id: cacheId, mode: 0 })
    .execute();
  const role = (name: string) =>
    t.db
      .selectFrom("cache_role")
      .select("id")
      .where("name", "=", name)
      .where("cache_id", "is", null)
      .executeTakeFirstOrThrow();
  for (const [user, name] of [
    [writer, "Write"],
    [reader, "View"],
  ] as const) {
    const member = { cache_id: cacheId, user_id: user.id, role_id: (await role(name)).id };
    await t.db.insertInto("cache_member").values(member).execute();
  }
  projectId = await insertProjectRow(t.db, { organizationId });
});
afterAll(() => t[Symbol.asyncDispose]());
beforeEach(async () => {
  await sql`truncate cache_path, nar, cache_pin, blocked_path, evaluation, build, cache_usage cascade`.execute(t.db);
});

async function commit(path: StoredPath): Promise<void> {
  const { secretKeyOf } = t.deps;
  await inTransaction(t.db, (trx) =>
    commitPaths(trx, { secretKeyOf }, { cacheIds: [cacheId], organizationId: null, paths: [path] }),
  );
}

async function add(name: string, references: readonly StorePath[] = []): Promise<StoredPath> {
  const path = await storeFile({ deps: t.deps }, name, { references });
  await commit(path);
  await sql`
    update cache_path set created_at = gradient_now() - interval '30 days',
      last_used_at = gradient_now() - interval '30 days'
    where store_path = ${path.storePath.slice(11)}`.execute(t.db);
  return path;
}

const hashOf = ({ storePath }: StoredPath): string => storePath.slice(11, 43);
const ask = (method: string, path: string, body?: unknown, user = owner) =>
  t.ask(method, `/caches/main${path}`, { token: user.token, ...(body !== undefined && { body }) });
const names = async (): Promise<string[]> => {
  await sweep(t.deps, new AbortController().signal);
  const rows = await t.db.selectFrom("cache_path").select("store_path").execute();
  return rows.map(({ store_path }) => store_path.slice(33)).sort();
};

test("a pin keeps a path with its closure; the next revision takes its place, and some before it stay", async () => {
  const lib = await add("lib");
  const first = await add("first", [lib.storePath]);
  const second = await add("second");
  const third = await add("third");
  await add("loose");

  const pin = (path: StoredPath, more = {}) =>
    ask("PUT", "/pins/release", { store_path: path.storePath, ...more }, writer);
  expect((await pin(first, { keep_revisions: 2 })).body.message).toEqual({ name: "release", revision: 1 });
  expect((await pin(second)).body.message).toEqual({ name: "release", revision: 2 });
  expect(await names()).toEqual(["first", "lib", "second"]);

  await commit(third);
  expect((await pin(third)).status).toBe(200);
  expect((await ask("GET", "/pins/release", undefined, reader)).body.message).toMatchObject([
    { revision: 3, store_path: third.storePath, created_by: "Writer", keep_revisions: 2 },
    { revision: 2, store_path: second.storePath },
  ]);
  expect((await ask("GET", "/pins", undefined, reader)).body.message).toMatchObject([{ name: "release", revision: 3 }]);

  await t.db.updateTable("cache").set({ public: true }).where("id", "=", cacheId).execute();
  expect((await ask("GET", "/pins", undefined, stranger)).body.message).toMatchObject([
    { revision: 3, created_by: null },
  ]);
  await t.db.updateTable("cache").set({ public: false }).where("id", "=", cacheId).execute();

  expect((await ask("DELETE", "/pins/release/2", undefined, writer)).status).toBe(200);
  expect((await ask("DELETE", "/pins/release/3", undefined, writer)).status, "the newest goes with the pin").toBe(404);
  expect((await ask("DELETE", "/pins/release", undefined, writer)).status).toBe(200);
  expect(await names()).toEqual(["third"]);
});

test("only a path that the cache has can be pinned, by who may write, under a name of letters and signs", async () => {
  const path = await add("path");
  const other = { ...path, storePath: `/nix/store/${"a".repeat(32)}-other` as StorePath };
  const body = { store_path: path.storePath };
  expect((await ask("PUT", "/pins/p", { store_path: other.storePath })).status).toBe(422);
  expect((await ask("PUT", "/pins/p", { store_path: "/etc/passwd" })).status).toBe(400);
  expect((await ask("PUT", "/pins/.hidden", body)).status).toBe(400);
  expect((await ask("PUT", "/pins/p", body, reader)).status).toBe(403);
  expect((await ask("PUT", "/pins/p", body, stranger)).status).toBe(404);
  expect((await ask("PUT", "/pins/p", { store_path: hashOf(path) })).status).toBe(200);
});

test("why a path stays is a chain of references up to what has a reason", async () => {
  const lib = await add("lib");
  const middle = await add("middle", [lib.storePath]);
  const app = await add("app", [middle.storePath]);
  const why = async (path: StoredPath, user = owner) =>
    (await ask("GET", `/nars/${hashOf(path)}/why`, undefined, user)).body.message;

  expect(await why(lib)).toMatchObject({ kept: false, reason: "none", chain: [lib.storePath] });
  await ask("PUT", "/pins/app", { store_path: app.storePath });
  const chain = [lib.storePath, middle.storePath, app.storePath];
  expect(await why(lib)).toMatchObject({ kept: true, reason: "pin", subject: "app", chain });

  const evaluationId = await insertEvaluationRow(t.db, { organizationId, projectId, status: 5 });
  const build = await insertBuild(t.db, { organizationId, name: "middle", status: 3 });
  await sql`update build_output set store_path = ${middle.storePath.slice(11)} where build_id = ${build}`.execute(t.db);
  await linkBuild(t.db, evaluationId, build, { outcome: 3 });
  expect(await why(lib)).toMatchObject({ reason: "evaluation", subject: evaluationId, chain: chain.slice(0, 2) });

  const host = { id: newId(), project_id: projectId, name: "web", kept_until: new Date("2100-01-01") };
  await t.db.insertInto("host").values(host).execute();
  const running = { host_id: host.id, role: 0, store_path: lib.storePath.slice(11) };
  await t.db.insertInto("host_path").values(running).execute();
  expect(await why(lib)).toMatchObject({ kept: true, reason: "host", subject: "web", chain: [lib.storePath] });
  await t.db.deleteFrom("host").execute();

  await sql`update cache_path set last_used_at = gradient_now() where store_path = ${lib.storePath.slice(11)}`.execute(
    t.db,
  );
  expect(await why(lib)).toMatchObject({ reason: "use", chain: [lib.storePath], last_used_at: expect.any(String) });
  expect((await ask("GET", `/nars/${hashOf(lib)}/why`, undefined, writer)).status).toBe(403);
  expect((await ask("GET", `/nars/${"a".repeat(32)}/why`)).status).toBe(404);
});

test("evaluations of organizations that one does not belong to are not named", async () => {
  const path = await add("path");
  const evaluationId = await insertEvaluationRow(t.db, { organizationId, projectId, status: 5 });
  const build = await insertBuild(t.db, { organizationId, name: "path", status: 3 });
  await sql`update build_output set store_path = ${path.storePath.slice(11)} where build_id = ${build}`.execute(t.db);
  await linkBuild(t.db, evaluationId, build, { outcome: 3 });
  const admin = await t.user("Manager");
  const role = await t.db
    .selectFrom("cache_member")
    .select("role_id")
    .where("user_id", "=", owner.id)
    .executeTakeFirstOrThrow();
  await t.db
    .insertInto("cache_member")
    .values({ cache_id: cacheId, user_id: admin.id, ...role })
    .execute();

  const why = (await ask("GET", `/nars/${hashOf(path)}/why`, undefined, admin)).body.message;
  expect(why).toMatchObject({ kept: true, reason: "evaluation", subject: null });
});

test("a preview says what would go and what the storage gets back, with any limit, and takes nothing", async () => {
  const lib = await add("lib");
  await add("app", [lib.storePath]);
  const kept = await add("kept");
  await ask("PUT", "/pins/kept", { store_path: kept.storePath });
  await sql`update nar set file_size = 400000000`.execute(t.db);

  const preview = async (query = "") => (await ask("GET", `/retention/preview${query}`)).body.message;
  expect(await preview()).toMatchObject({
    held: { paths: 3, bytes: 1.2e9 },
    doomed: { paths: 2, bytes: 8e8, freed_bytes: 8e8 },
  });
  expect(await preview("?ttl_hours=0")).toMatchObject({ doomed: { paths: 0 } });
  expect(await preview("?ttl_hours=0&max_storage_gb=1")).toMatchObject({ doomed: { paths: 2 } });
  expect(await preview("?ttl_hours=2000")).toMatchObject({ doomed: { paths: 0 }, largest: [] });
  expect((await ask("GET", "/retention/preview?ttl_hours=-1")).status).toBe(400);
  expect((await ask("GET", "/retention/preview", undefined, writer)).status).toBe(403);
  expect(await t.db.selectFrom("retention_path").select("hash").execute()).toEqual([]);
  expect(await t.db.selectFrom("cache_path").select("hash").execute()).toHaveLength(3);
});

test("one path is removed with its file, unless others refer to it or a pin names it", async () => {
  const lib = await add("lib");
  const app = await add("app", [lib.storePath]);
  const remove = (path: StoredPath, query = "", user = writer) =>
    ask("DELETE", `/nars/${hashOf(path)}${query}`, undefined, user);

  const refused = await remove(lib);
  expect(refused.status).toBe(409);
  expect(refused.body.message).toContain(app.storePath.slice(11));
  expect((await remove(app, "", reader)).status).toBe(403);

  await ask("PUT", "/pins/app", { store_path: app.storePath });
  expect((await remove(lib, "?referrers=true")).body.message).toContain("pinned as app");
  await ask("DELETE", "/pins/app");

  expect((await remove(lib, "?referrers=true")).status).toBe(204);
  expect(await t.db.selectFrom("cache_path").select("hash").execute()).toEqual([]);
  expect(await t.deps.blobs.head(lib.nar.objectKey)).toBeNull();
  expect(await t.db.selectFrom("discarded_object").select("object_key").execute()).toEqual([]);
  for (const path of [lib, app]) expect(t.notified).toContain(`path ${cacheId}/${hashOf(path)}`);
  expect((await remove(lib)).status).toBe(404);
});

test("a file that another path is served from outlasts the removal of one", async () => {
  const content = new TextEncoder().encode("the same");
  const one = await storeFile({ deps: t.deps }, "one", { content });
  const two = await storeFile({ deps: t.deps }, "two", { content });
  await commit(one);
  await commit(two);

  expect((await ask("DELETE", `/nars/${hashOf(one)}`)).status).toBe(204);

  expect(formatHash(one.narHash, "nix32")).toBe(formatHash(two.narHash, "nix32"));
  expect(await t.deps.blobs.head(two.nar.objectKey)).not.toBeNull();
});

test("a blocked path is not taken again, from nobody and under nobody's closure, until that is lifted", async () => {
  const secret = await add("secret");
  expect((await ask("DELETE", `/nars/${hashOf(secret)}?block=it%20leaked`, undefined, writer)).status).toBe(403);
  expect((await ask("DELETE", `/nars/${hashOf(secret)}?block=it%20leaked`)).status).toBe(204);
  expect((await ask("GET", "/blocked")).body.message).toMatchObject([
    { hash: hashOf(secret), reason: "it leaked", blocked_by: "Owner" },
  ]);

  const again = await storeFile({ deps: t.deps }, "secret", { content: new TextEncoder().encode("secret") });
  const path = { ...again, storePath: secret.storePath };
  await expect(commit(path)).rejects.toThrow(/is blocked in a cache.*it leaked/);
  const user = await storeFile({ deps: t.deps }, "user", { references: [secret.storePath] });
  await expect(commit(user)).rejects.toThrow(/refers to/);

  expect((await ask("DELETE", `/blocked/${hashOf(secret)}`, undefined, writer)).status).toBe(403);
  expect((await ask("DELETE", `/blocked/${hashOf(secret)}`)).status).toBe(200);
  await commit(path);
  expect((await ask("DELETE", `/blocked/${hashOf(secret)}`)).status).toBe(404);
});

test("a path that is being committed while it is blocked comes before the block, or is refused", async () => {
  for (let round = 0; round < 5; round++) {
    const path = await storeFile({ deps: t.deps }, `path-${round}`);
    const block = () => ask("PUT", `/blocked/${hashOf(path)}`, { reason: "no" });
    const [committed] = await Promise.allSettled([commit(path), block()]);
    const blocked = await t.db.selectFrom("blocked_path").select("hash").where("hash", "=", hashOf(path)).execute();
    expect(blocked).toHaveLength(1);
    await expect(commit(path)).rejects.toThrow(/blocked/);
    const held = await t.db.selectFrom("cache_path").select("hash").where("hash", "=", hashOf(path)).execute();
    expect(held).toHaveLength(committed?.status === "fulfilled" ? 1 : 0);
  }
});

test("a removal that blocks waits for what is being committed, and takes it along", async () => {
  const path = await storeFile({ deps: t.deps }, "path");
  const { secretKeyOf } = t.deps;
  let removed: Promise<{ status: number }> | undefined;
  await t.db.transaction().execute(async (trx) => {
    await commitPaths(trx, { secretKeyOf }, { cacheIds: [cacheId], organizationId: null, paths: [path] });
    removed = ask("DELETE", `/nars/${hashOf(path)}?block=no`);
    expect(await Promise.race([removed, new Promise((resolve) => setTimeout(resolve, 100, "waits"))])).toBe("waits");
  });

  expect((await removed)?.status).toBe(204);
  expect(await t.db.selectFrom("cache_path").select("hash").execute()).toEqual([]);
});

test("the latest successful build of an entry point is asked for by its attribute", async () => {
  const id = await insertEvaluationRow(t.db, { organizationId, projectId, status: 5 });
  const build = await insertBuild(t.db, { organizationId, name: "app", status: 3 });
  const link = await linkBuild(t.db, id, build, { outcome: 3 });
  const attribute = ["packages", "x86_64-linux", "a.b"];
  await t.db
    .insertInto("entry_point")
    .values({ id: crypto.randomUUID(), evaluation_id: id, attribute, build_id: build })
    .execute();
  const latest = (query: string, user = owner) =>
    t.ask("GET", `/projects/team/site/latest${query}`, { token: user.token });

  expect((await latest("")).body.message).toMatchObject([
    { attribute: 'packages.x86_64-linux."a.b"', evaluation_id: id, build_id: link },
  ]);
  expect((await latest('?attribute=packages.x86_64-linux."a.b"')).body.message).toHaveLength(1);
  expect((await latest("?attribute=packages")).body.message).toEqual([]);
  expect((await latest("?attribute=a.")).status).toBe(400);
  expect((await latest("", stranger)).status).toBe(404);
});

test("only a superuser has the whole instance swept at once", async () => {
  const sweepAll = (user: TestUser, body: object = {}) =>
    t.ask("POST", "/admin/maintenance/deep-gc", { token: user.token, body });
  expect((await sweepAll(owner)).body.code).toBe("superuser_required");
  const root = await t.user("Rhea", { superuser: true });
  expect((await sweepAll(root, { force: "yes" })).status).toBe(400);
  expect(await sweepAll(root)).toMatchObject({ status: 202, body: { message: { status: "pending" } } });
  expect((await sweepAll(root)).status, "one is under way").toBe(409);
});
