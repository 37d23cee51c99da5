import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { HOSTS_MAX } from "#core/services/hosts-report.ts";
import { RUNS_MAX } from "#core/services/hosts-report-apply.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { buildHosts, deploy, type Fleet, insertFleet, randomHash, report } from "../support/hosts.ts";
import { newId } from "../support/rows.ts";

let api: BuildsApi;
beforeAll(async () => {
  api = await withBuildsApi();
});
afterAll(() => api[Symbol.asyncDispose]());

const tell = (fleet: Fleet, host: string, more: object, user = api.writer) =>
  api.ask("POST", `${fleet.path}/hosts/${host}/reports`, user, report(more));
const show = async (fleet: Fleet, host: string) =>
  (await api.ask("GET", `${fleet.path}/hosts/${host}`, api.viewer)).message;
const history = async (fleet: Fleet, host: string) =>
  (await api.ask("GET", `${fleet.path}/hosts/${host}/history`, api.viewer)).message;
const at = (ms: number) => new Date(Date.now() + ms).toISOString();

test("a run is told step by step, and the host is shown as it says", async () => {
  const fleet = await insertFleet(api);
  const built = await buildHosts(api, fleet, { hosts: ["web", "db"] });
  expect(await show(fleet, "web")).toMatchObject({ known: false, present: null, last_run: null, up_to_date: null });
  await tell(fleet, "web", { step: "unchanged", running_path: `/nix/store/${randomHash()}-old`, health: "healthy" });
  const run = {
    run_id: newId(),
    build_id: built.links.web,
    store_path: built.paths.web,
    happened_at: at(7_200_000).replace("Z", "+02:00"),
  };
  expect((await tell(fleet, "web", { ...run, sequence: 0, step: "started" })).message).toEqual({ accepted: true });
  await tell(fleet, "web", { ...run, sequence: 1, step: "downloading" });
  await tell(fleet, "web", { ...run, sequence: 2, step: "activating" });
  const end = {
    running_path: built.paths.web,
    booted_path: built.paths.web,
    generation: 7,
    health: "healthy",
    exit_code: 0,
  };
  await tell(fleet, "web", { ...run, ...end, sequence: 3, step: "succeeded" });

  const where = {
    build_id: built.links.web,
    evaluation_id: built.evaluation,
    order: built.order,
    commit: built.commit,
    branch: "main",
  };
  const view = await show(fleet, "web");
  expect(view).toMatchObject({
    host: "web",
    known: true,
    state: "deploy",
    up_to_date: true,
    present: { store_path: built.paths.web, commit_message: `Commit ${built.commit}`, ...where },
    booted_path: built.paths.web,
    generation: 7,
    health: "healthy",
    agent_version: "1.0",
    failed_paths: [],
    rollback_paths: [expect.stringMatching(/-old$/)],
  });
  // As `GRADIENT_KEEP_SILENT_HOSTS_HOURS` says.
  expect(Date.parse(view.kept_until) - Date.parse(view.last_contact_at)).toBe(api.deps.retention.silentHostMs);
  const { items, total } = await history(fleet, "web");
  expect([total, items]).toEqual([1, [view.last_run]]);
  expect(items[0]).toMatchObject({ id: run.run_id, mode: "switch", step: "succeeded", exit_code: 0, ...where });
  expect(items[0].ended_at).toMatch(/\+00:00$/);
  expect(items[0].steps.map(({ step }: { step: string }) => step)).toEqual([
    "started",
    "downloading",
    "activating",
    "succeeded",
  ]);
  expect(Date.parse(items[0].steps[0].happened_at)).toBe(Date.parse(run.happened_at));
});

test("a report that comes again changes nothing, and one that comes late only fills the history", async () => {
  const fleet = await insertFleet(api);
  const built = await buildHosts(api, fleet, { hosts: ["web"] });
  const run = { run_id: newId(), store_path: built.paths.web };
  await tell(fleet, "web", { ...run, sequence: 0, step: "started" });
  await tell(fleet, "web", {
    ...run,
    sequence: 5,
    step: "succeeded",
    health: "healthy",
    running_path: built.paths.web,
  });
  const rows = async () => {
    const { rows: found } = await sql`
      select h.*, d.*, (select count(*) from host_path) as paths from host h join deployment d on d.host_id = h.id
      where h.project_id = ${fleet.id}`.execute(api.db);
    return found;
  };
  const before = await rows();
  const again = await tell(fleet, "web", {
    ...run,
    sequence: 5,
    step: "failed",
    running_path: null,
    health: "unhealthy",
  });
  expect([again.status, again.message]).toEqual([200, { accepted: false }]);
  expect(await rows()).toEqual(before);

  const late = await tell(fleet, "web", { ...run, sequence: 2, step: "activating", health: "unhealthy" });
  expect(late.message).toEqual({ accepted: true });
  // Another run, which began earlier.
  const old = { run_id: newId(), happened_at: at(-3_600_000), store_path: `/nix/store/${randomHash()}-older` };
  await tell(fleet, "web", { ...old, sequence: 0, step: "started", running_path: `/nix/store/${randomHash()}-oldest` });
  const view = await show(fleet, "web");
  expect([view.health, view.present.store_path, view.rollback_paths]).toEqual(["healthy", built.paths.web, []]);
  const { items } = await history(fleet, "web");
  const ofRun = items.find(({ id }: { id: string }) => id === run.run_id);
  expect([ofRun.step, ofRun.steps.map(({ sequence }: { sequence: number }) => sequence)]).toEqual([
    "succeeded",
    [0, 2, 5],
  ]);
});

test("a clock that runs ahead does not freeze what is known of the host", async () => {
  const fleet = await insertFleet(api);
  await buildHosts(api, fleet, { hosts: ["web"] });
  await tell(fleet, "web", { step: "unchanged", happened_at: at(86_400_000), health: "healthy" });
  await tell(fleet, "web", { step: "unchanged", happened_at: at(60_000), health: "unhealthy" });
  expect((await show(fleet, "web")).health).toBe("unhealthy");
});

test("a clock that was set back hides no run that ended, and what follows is shown again", async () => {
  const fleet = await insertFleet(api);
  const built = await buildHosts(api, fleet, { hosts: ["web"] });
  await tell(fleet, "web", { step: "unchanged", running_path: `/nix/store/${randomHash()}-old`, health: "healthy" });
  const back = (ms: number) => at(ms - 3_600_000);
  const run = { run_id: newId(), store_path: built.paths.web };
  await tell(fleet, "web", { ...run, sequence: 0, step: "started", happened_at: back(0) });
  await tell(fleet, "web", { ...run, sequence: 1, step: "activating", happened_at: back(1) });
  const end = { step: "succeeded", running_path: built.paths.web, health: "healthy" };
  await tell(fleet, "web", { ...run, ...end, sequence: 2, happened_at: back(2) });
  const view = await show(fleet, "web");
  expect([view.present.store_path, view.up_to_date, view.health]).toEqual([built.paths.web, true, "healthy"]);
  await tell(fleet, "web", { step: "unchanged", health: "unhealthy", happened_at: back(1_000) });
  expect((await show(fleet, "web")).health).toBe("unhealthy");

  // A run that lasted a minute, told in a moment, was queued.
  const queued = { run_id: newId(), store_path: `/nix/store/${randomHash()}-older` };
  await tell(fleet, "web", { ...queued, sequence: 0, step: "started", happened_at: back(-120_000) });
  const late = { step: "succeeded", running_path: queued.store_path, health: "healthy" };
  await tell(fleet, "web", { ...queued, ...late, sequence: 1, happened_at: back(-60_000) });
  expect(await show(fleet, "web")).toMatchObject({ present: { store_path: built.paths.web }, health: "unhealthy" });
});

test("a host that falls ill while its clock is days behind is shown ill, and well when it is well again", async () => {
  const fleet = await insertFleet(api);
  const built = await buildHosts(api, fleet, { hosts: ["web"] });
  const say = (health: string, ms: number) =>
    tell(fleet, "web", { step: "unchanged", running_path: built.paths.web, health, happened_at: at(ms) });
  const healthySince = async () => {
    const { rows } = await sql<{ since: Date | null }>`
      select healthy_since as since from host where project_id = ${fleet.id}`.execute(api.db);
    return rows[0]?.since;
  };
  await say("healthy", 0);
  expect(await healthySince()).not.toBe(null);
  for (const ms of [-3 * 86_400_000, -20_000]) {
    await say("unhealthy", ms);
    expect([(await show(fleet, "web")).health, await healthySince()]).toEqual(["unhealthy", null]);
    await say("healthy", ms + 100_000);
    expect((await show(fleet, "web")).health).toBe("healthy");
  }
});

test("what a script printed costs no report: characters that no text can hold are replaced", async () => {
  const fleet = await insertFleet(api);
  const built = await buildHosts(api, fleet, { hosts: ["web"] });
  const printed = "boom \0 \u0001 \u001b]0;title\u0007 \ud800 \u202e end\r\n";
  const failed = { step: "rolled_back", store_path: built.paths.web, failed_units: ["a\0b.service"] };
  const answer = await tell(fleet, "web", { ...failed, reason: printed, agent_version: "1\0" });
  expect([answer.status, answer.message]).toEqual([200, { accepted: true }]);
  const view = await show(fleet, "web");
  expect(view).toMatchObject({ state: "held", agent_version: "1\ufffd", failed_units: ["a\ufffdb.service"] });
  expect(view.last_run.reason).toBe(printed.replace(/[\0\ud800]/g, "\ufffd"));
  // What is no text stays exact.
  expect((await tell(fleet, "web", { running_path: `${built.paths.web}\0` })).status).toBe(400);
});

test("what failed before it ran holds nothing; what failed after it does, also when the steps come late", async () => {
  const fleet = await insertFleet(api);
  const built = await buildHosts(api, fleet, { hosts: ["web"] });
  const run = () => ({ run_id: newId(), build_id: built.links.web, store_path: built.paths.web });
  const state = async () => (await show(fleet, "web")).state;
  const full = run();
  await tell(fleet, "web", { ...full, sequence: 0, step: "downloading" });
  await tell(fleet, "web", { ...full, sequence: 1, step: "failed", reason: "no space left on device" });
  expect(await state()).toBe("deploy");
  const trial = { ...run(), mode: "dry-activate" };
  await tell(fleet, "web", { ...trial, sequence: 0, step: "activating" });
  await tell(fleet, "web", { ...trial, sequence: 1, step: "failed" });
  expect(await state()).toBe("deploy");
  const broken = run();
  await tell(fleet, "web", { ...broken, sequence: 3, step: "failed", reason: "it hangs" });
  expect(await state()).toBe("deploy");
  await tell(fleet, "web", { ...broken, sequence: 2, step: "activating" });
  const view = await show(fleet, "web");
  expect([view.state, view.failed_paths]).toEqual([
    "held",
    [{ store_path: built.paths.web, reason: "it hangs", since: expect.any(String) }],
  ]);

  // Released is released: what is still on its way does not hold it anew. And a success proves it.
  await api.ask("POST", `${fleet.path}/hosts/web/release`, api.writer);
  await tell(fleet, "web", { ...broken, sequence: 4, step: "rolled_back" });
  expect(await state()).toBe("deploy");
  await deploy(api, fleet, { host: "web", built, end: "rolled_back" });
  expect(await state()).toBe("held");
  await deploy(api, fleet, { host: "web", built, end: "succeeded" });
  expect((await show(fleet, "web")).failed_paths).toEqual([]);
});

test("who may only look reports nothing, and a key may be for reports alone", async () => {
  const fleet = await insertFleet(api);
  await buildHosts(api, fleet, { hosts: ["web"] });
  const refused = await tell(fleet, "web", {}, api.viewer);
  expect([refused.status, refused.message]).toEqual([403, expect.stringMatching(/`reportDeployments`/)]);
  const key = { name: "host", permissions: ["viewOrg", "reportDeployments"], organization: "acme" };
  const token = (await api.ask("POST", "/user/keys", api.writer, key)).message;
  const withKey = async (method: string, path: string, body?: unknown) =>
    (await api.fetch(method, `${fleet.path}${path}`, null, { body, headers: { authorization: `Bearer ${token}` } }))
      .status;
  expect(await withKey("GET", "/hosts/web/wanted")).toBe(200);
  expect(await withKey("POST", "/hosts/web/reports", report({}))).toBe(200);
  expect(await withKey("POST", "/hosts/web/release")).toBe(403);
  expect(await withKey("POST", "/evaluate", {})).toBe(403);
});

test("lists show hosts that told of themselves and those that the flake names, of a project and of all", async () => {
  const fleet = await insertFleet(api);
  await buildHosts(api, fleet, { hosts: ["a", "gone"] });
  await tell(fleet, "gone", { step: "unchanged" });
  await buildHosts(api, fleet, { hosts: ["a", "b"] });
  const page = (await api.ask("GET", `${fleet.path}/hosts?per_page=2`, api.viewer)).message;
  const names = (items: { host: string; known: boolean }[]) => items.map(({ host, known }) => [host, known]);
  expect([page.total, names(page.items)]).toEqual([
    3,
    [
      ["a", false],
      ["b", false],
    ],
  ]);
  const second = (await api.ask("GET", `${fleet.path}/hosts?per_page=2&page=2`, api.viewer)).message;
  expect(names(second.items)).toEqual([["gone", true]]);
  const all = (await api.ask("GET", "/orgs/acme/hosts?per_page=100", api.viewer)).message;
  expect(all.items).toEqual(expect.arrayContaining(page.items));
  expect(all.total).toBeGreaterThan(page.total);
  expect((await api.ask("GET", "/orgs/acme/hosts", api.stranger)).status).toBe(404);

  expect((await api.ask("DELETE", `${fleet.path}/hosts/gone`, api.viewer)).status).toBe(403);
  expect((await api.ask("DELETE", `${fleet.path}/hosts/gone`, api.admin)).status).toBe(200);
  expect((await api.ask("DELETE", `${fleet.path}/hosts/gone`, api.admin)).status).toBe(404);
  // An older evaluation names it still.
  expect((await show(fleet, "gone")).known).toBe(false);
});

test("nobody makes hosts up, and nothing grows without bound", async () => {
  const fleet = await insertFleet(api);
  const built = await buildHosts(api, fleet, { hosts: ["web", "db"] });
  await buildHosts(api, fleet, { hosts: ["stranger"], deploys: false });
  for (const host of ["none-such", "stranger"]) expect((await tell(fleet, host, {})).status).toBe(404);

  const run = newId();
  for (let sequence = 0; sequence < 70; sequence++)
    await tell(fleet, "web", { run_id: run, sequence, step: "checking" });
  expect((await history(fleet, "web")).items[0].steps).toHaveLength(64);
  await sql`
    insert into deployment (id, host_id, run_id, mode, step, sequence, health, agent_version, steps, started_at)
    select gen_random_uuid(), h.id, gen_random_uuid(), 0, 4, 0, 0, '', '[]', now() - n * interval '1 day'
    from host h, generate_series(1, ${RUNS_MAX + 20}) n where h.project_id = ${fleet.id}`.execute(api.db);
  await deploy(api, fleet, { host: "web", built, end: "rolled_back" });
  const { total, items } = await history(fleet, "web");
  expect([total, items[0].step]).toEqual([RUNS_MAX, "rolled_back"]);

  for (const name of ["a", "b", "c", "d"]) {
    await tell(fleet, "web", { step: "unchanged", running_path: `/nix/store/${randomHash()}-${name}` });
  }
  const { rows } = await sql`
    select from host_path p join host h on h.id = p.host_id where h.project_id = ${fleet.id}`.execute(api.db);
  expect(rows.length).toBeLessThanOrEqual(5);
  await sql`
    insert into host (id, project_id, name, kept_until)
    select gen_random_uuid(), ${fleet.id}, 'h' || n, now() from generate_series(1, ${HOSTS_MAX - 1}) n`.execute(api.db);
  const tooMany = await tell(fleet, "db", {});
  expect([tooMany.status, tooMany.message]).toEqual([409, expect.stringMatching(/at most 1000 hosts/)]);
});

test("reports of one host that come at once leave one host and one truth", async () => {
  const fleet = await insertFleet(api);
  await buildHosts(api, fleet, { hosts: ["web"] });
  const run_id = newId();
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, index) => tell(fleet, "web", { run_id, sequence: index % 4, step: "checking" })),
  );
  expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(200));
  expect(answers.filter(({ message }) => message.accepted)).toHaveLength(4);
  const [run, ...others] = (await history(fleet, "web")).items;
  expect([others, run.steps.length]).toEqual([[], 4]);
});
