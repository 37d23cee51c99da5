import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HOUR } from "#core/lib/clock.ts";
import { localPath, narName } from "#test/cache/push-support.ts";
import { randomContent } from "#test/cache/support.ts";
import type { Api } from "#test/e2e/api.ts";
import type { BuildsApi } from "#test/support/builds-api.ts";
import { buildHosts, insertFleet, randomHash, report } from "#test/support/hosts.ts";
import { newId } from "#test/support/rows.ts";
import { addOrganization, type Place, type StartedServer, WAIT, withPlace } from "./support.ts";

const STALE_SECONDS = 3_600;

let place: Place;
beforeAll(async () => {
  place = await withPlace();
});
afterAll(() => place[Symbol.asyncDispose]());

const organization = (name: string) => ({ name, display_name: name, description: "" });

describe("on a server with these options", () => {
  let server: StartedServer;
  let api: Api;
  beforeAll(async () => {
    {
      await using open = await place.start();
      const founder = open.api();
      await founder.signUp("ada");
      await addOrganization(founder, "acme");
      await insertUnfinishedUpload();
    }
    server = await place.start({
      GRADIENT_CREATE_ORG: "superusers",
      GRADIENT_CREATE_CACHE: "superusers",
      GRADIENT_MAX_SOURCE_UPLOAD_SIZE: "4096",
      GRADIENT_MAX_NAR_UPLOAD_SIZE: "8192",
      GRADIENT_NAR_PARTIAL_TTL_SECS: String(STALE_SECONDS - 60),
      GRADIENT_ALLOW_LOCAL_SOURCES: "true",
      GRADIENT_GLOBAL_STATS_PUBLIC: "true",
      GRADIENT_KEEP_SILENT_HOSTS_HOURS: "7",
    });
    api = server.api();
    await signIn("ada");
  });
  afterAll(() => server[Symbol.asyncDispose]());

  async function signIn(loginname: string): Promise<void> {
    api.token = await api.request("POST", "/auth/basic/login", { loginname, password: "Corr3ct-Horse!" });
  }

  async function asSuperuser<T>(action: () => Promise<T>): Promise<T> {
    const change = (superuser: boolean) => place.db.updateTable("user_account").set({ superuser }).execute();
    await change(true);
    await signIn("ada");
    const result = await action();
    await change(false);
    await signIn("ada");
    return result;
  }

  test("createOrg (GRADIENT_CREATE_ORG=superusers): nobody else makes organizations", async () => {
    const make = () => api.fetch("PUT", "/orgs", organization("globex"));

    expect(await codeOf(await make())).toEqual([403, "superuser_required"]);
    expect(await asSuperuser(async () => (await make()).status)).toBe(200);
  });

  test("createCache (GRADIENT_CREATE_CACHE=superusers): nobody else makes caches", async () => {
    const make = () => api.fetch("PUT", "/caches", organization("globex-cache"));

    expect(await codeOf(await make())).toEqual([403, "superuser_required"]);
    expect(await asSuperuser(async () => (await make()).status)).toBe(200);
  });

  test("maxSourceUploadSize (GRADIENT_MAX_SOURCE_UPLOAD_SIZE): no larger source is taken", async () => {
    const send = async (bytes: number) => {
      const path = `/build-requests/source/${crypto.randomUUID()}/chunk?offset=0`;
      const headers = { authorization: `Bearer ${api.token}` };
      const answer = await fetch(`${server.url}/api/v1${path}`, { method: "PUT", headers, body: randomBytes(bytes) });
      return answer.status;
    };

    expect(await send(4_097)).toBe(413);
    expect(await send(4_000)).toBe(200);
  });

  test("maxNarUploadSize (GRADIENT_MAX_NAR_UPLOAD_SIZE): a larger NAR is taken by no cache", async () => {
    const send = async (bytes: number) => {
      const { nar: body } = await localPath("sized", { content: randomContent(bytes) });
      const url = `${server.url}/cache/acme/${await narName(body, ".nar")}`;
      return (await fetch(url, { method: "PUT", headers: { authorization: `Bearer ${api.token}` }, body })).status;
    };

    expect(await send(8_192)).toBe(413);
    expect(await send(8_000)).toBe(200);
  });

  test("narPartialTtlSecs (GRADIENT_NAR_PARTIAL_TTL_SECS): unfinished uploads are forgotten", async () => {
    const uploads = place.db.selectFrom("nar_upload").select("id");

    await expect.poll(() => uploads.execute(), WAIT).toEqual([]);
  });

  test("allowLocalSources (GRADIENT_ALLOW_LOCAL_SOURCES): projects may name folders of this machine", async () => {
    const project = { ...organization("local"), repository: "file:///srv/site", wildcard: "packages.*" };

    expect((await api.fetch("PUT", "/projects/acme", project)).status).toBe(200);
  });

  test("globalStatsPublic (GRADIENT_GLOBAL_STATS_PUBLIC): everybody who is signed in sees the workers", async () => {
    expect((await api.fetch("GET", "/admin/workers")).status).toBe(200);
  });

  test("keepSilentHostsHours (GRADIENT_KEEP_SILENT_HOSTS_HOURS): systems of silent hosts stay so long", async () => {
    const { id: organizationId } = await place.db
      .selectFrom("organization")
      .select("id")
      .where("name", "=", "acme")
      .executeTakeFirstOrThrow();
    const rows = { db: place.db, organizationId } as BuildsApi;
    const fleet = await insertFleet(rows);
    await buildHosts(rows, fleet, { hosts: ["web"] });

    const said = report({ step: "unchanged", running_path: `/nix/store/${randomHash()}-old`, health: "healthy" });
    await api.request("POST", `${fleet.path}/hosts/web/reports`, said);

    const host = await place.db.selectFrom("host").selectAll().executeTakeFirstOrThrow();
    expect(Number(host.kept_until) - Number(host.last_contact_at)).toBe(7 * HOUR);
  });
});

test("where nothing is said, all make organizations and caches, see no workers and name no folders", async () => {
  await using server = await place.start();
  const api = server.api();
  await api.signUp("bob");
  await addOrganization(api, "bobs");
  const project = { ...organization("local"), repository: "file:///srv/site", wildcard: "packages.*" };

  expect((await api.fetch("PUT", "/projects/bobs", project)).status).toBe(400);
  expect((await api.fetch("GET", "/admin/workers")).status).toBe(403);
});

async function codeOf(answer: Response): Promise<[number, string]> {
  return [answer.status, ((await answer.json()) as { code: string }).code];
}

/** As old as it takes for the option to be what counts. */
async function insertUnfinishedUpload(): Promise<void> {
  const { id: cache_id } = await place.db
    .selectFrom("cache")
    .select("id")
    .where("name", "=", "acme")
    .executeTakeFirstOrThrow();
  const { id: user_id } = await place.db.selectFrom("user_account").select("id").executeTakeFirstOrThrow();
  const last_used_at = new Date(Date.now() - STALE_SECONDS * 1_000);
  await place.db
    .insertInto("nar_upload")
    .values({ id: newId(), cache_id, user_id, hash: "0".repeat(32), kind: 0, file_size: null, last_used_at })
    .execute();
}
