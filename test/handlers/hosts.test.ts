import { setTimeout as sleep } from "node:timers/promises";
import { Hono } from "hono";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BuildStatus, EvaluationStatus } from "#core/domain/states.ts";
import { FleetWatch } from "#core/services/deployments-watch.ts";
import type { AppEnv } from "#handlers/env.ts";
import { errorResponder } from "#handlers/errors.ts";
import { hostRoutes } from "#handlers/hosts.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { buildHosts, deploy, type Fleet, insertFleet, report } from "../support/hosts.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { insertCacheOf, insertOrganization, insertProjectRow, newId } from "../support/rows.ts";

let api: BuildsApi;
beforeAll(async () => {
  api = await withBuildsApi();
});
afterAll(() => api[Symbol.asyncDispose]());

const wanted = async (fleet: Fleet, host: string, user = api.viewer) =>
  (await api.ask("GET", `${fleet.path}/hosts/${host}/wanted`, user)).message;
const decision = async (fleet: Fleet, host: string) => {
  const { state, build } = await wanted(fleet, host);
  return [state, build?.build_id];
};

test("a host gets the newest system of the deploy branch, with all that it takes to fetch it", async () => {
  const cache = await insertCacheOf(api.db, api.organizationId);
  const fleet = await insertFleet(api);
  await buildHosts(api, fleet, { hosts: ["web"] });
  const { evaluation, order, commit, links, paths } = await buildHosts(api, fleet, { hosts: ["web", "db"] });
  const { message } = await api.ask("GET", `${fleet.path}/hosts/web/wanted`, api.viewer);
  expect(message).toEqual({
    host: "web",
    project: fleet.path.slice("/projects/".length),
    branch: "main",
    state: "deploy",
    reason: null,
    build: {
      evaluation_id: evaluation,
      build_id: links.web,
      order,
      attribute: "nixosConfigurations.web.config.system.build.toplevel",
      store_path: paths.web,
      commit,
      commit_message: `Commit ${commit}`,
      branch: "main",
      finished_at: expect.stringMatching(/\+00:00$/),
      nar_size: null,
    },
    caches: [
      {
        name: `cache-${cache}`,
        url: `https://ci.example.com/cache/cache-${cache}`,
        public_keys: [],
        private: true,
        priority: 40,
      },
    ],
    can_report: false,
  });
  expect((await wanted(fleet, "web", api.writer)).can_report).toBe(true);
});

test("what was not made for hosts never gets to one, however new it is", async () => {
  const fleet = await insertFleet(api);
  const good = await buildHosts(api, fleet, { hosts: ["web"] });
  // A pull request, sources that somebody sent, a recovery: none of these deploys; nor what comes from strangers.
  await buildHosts(api, fleet, { hosts: ["web"], deploys: false });
  await buildHosts(api, fleet, { hosts: ["web"], trusted: false });
  await buildHosts(api, fleet, { hosts: ["web"], branch: "feature" });
  await buildHosts(api, fleet, { hosts: ["web"], branch: null });
  await buildHosts(api, fleet, { hosts: ["web"], buildStatus: BuildStatus.FailedPermanent });
  await buildHosts(api, fleet, {
    hosts: ["web"],
    buildStatus: BuildStatus.Completed,
    outcome: BuildStatus.FailedPermanent,
  });
  await buildHosts(api, fleet, {
    hosts: ["web"],
    buildStatus: BuildStatus.Building,
    status: EvaluationStatus.Building,
  });
  await buildHosts(api, fleet, { hosts: ["web"], attribute: (host) => ["packages", "x86_64-linux", host] });
  await buildHosts(api, fleet, {
    hosts: ["web"],
    attribute: (host) => ["nixosConfigurations", host, "config", "system", "build", "isoImage"],
  });
  expect(await decision(fleet, "web")).toEqual(["deploy", good.links.web]);

  const running = await buildHosts(api, fleet, { hosts: ["web"], status: EvaluationStatus.Building });
  expect(await decision(fleet, "web")).toEqual(["deploy", running.links.web]);
  const failed = await buildHosts(api, fleet, { hosts: ["web"], status: EvaluationStatus.Failed });
  expect(await decision(fleet, "web")).toEqual(["deploy", failed.links.web]);
});

test("names with dots are hosts too, and both spellings of the attribute count", async () => {
  const fleet = await insertFleet(api);
  const short = await buildHosts(api, fleet, {
    hosts: ["web.example.com"],
    attribute: (host) => ["nixosConfigurations", host],
  });
  const { build } = await wanted(fleet, "web.example.com");
  expect([build.build_id, build.attribute]).toEqual([
    short.links["web.example.com"],
    'nixosConfigurations."web.example.com"',
  ]);
  const refused = await api.ask("GET", `${fleet.path}/hosts/${encodeURIComponent("a b")}/wanted`, api.viewer);
  expect([refused.status, refused.message]).toEqual([404, expect.stringMatching(/1 to 253 letters/)]);
});

test("a system that has vanished from the caches is not offered, nor an older one in its place", async () => {
  const fleet = await insertFleet(api);
  await buildHosts(api, fleet, { hosts: ["web"] });
  await buildHosts(api, fleet, { hosts: ["web"], available: false });
  const message = await wanted(fleet, "web");
  expect([message.state, message.build, message.reason]).toEqual(["none", null, expect.stringMatching(/vanished/)]);
});

test("hosts follow the branch that is set, or that a trigger names; without any they get nothing", async () => {
  const fleet = await insertFleet(api, { default_branch: null });
  await buildHosts(api, fleet, { hosts: ["web"], branch: "main" });
  const live = await buildHosts(api, fleet, { hosts: ["web"], branch: "live" });
  await buildHosts(api, fleet, { hosts: ["web"], branch: "main" });
  const unknown = await wanted(fleet, "web");
  expect([unknown.state, unknown.branch, unknown.reason]).toEqual([
    "none",
    null,
    expect.stringMatching(/deploy_branch/),
  ]);
  const config = { type: "polling", interval_secs: 600, branch: "live" };
  await api.ask("POST", `${fleet.path}/triggers`, api.admin, { config });
  expect(await decision(fleet, "web")).toEqual(["deploy", live.links.web]);
  expect((await api.ask("PATCH", fleet.path, api.admin, { deploy_branch: "none-such" })).status).toBe(200);
  expect((await wanted(fleet, "web")).reason).toMatch(/branch none-such has built nixosConfigurations.web/);
  // What concerns hosts alone evaluates nothing anew.
  expect((await api.ask("GET", fleet.path)).message).toMatchObject({
    deploy_branch: "none-such",
    force_evaluation: false,
  });
  const wrong = await api.ask("PATCH", fleet.path, api.admin, { deploy_branch: "a..b" });
  expect([wrong.code, wrong.message]).toEqual(["validation", expect.stringMatching(/^deploy_branch/)]);
});

test("strangers see nothing of hosts; of a public project what is wanted, and no other host", async () => {
  const hidden = await insertFleet(api);
  for (const path of ["", "/web", "/web/wanted", "/web/history"]) {
    expect((await api.ask("GET", `${hidden.path}/hosts${path}`, api.stranger)).status).toBe(404);
  }
  const organizationId = await insertOrganization(api.db, { name: "open", public: true });
  const id = await insertProjectRow(api.db, { organizationId, name: "site" });
  await api.db.updateTable("project").set({ deploy_branch: "main" }).where("id", "=", id).execute();
  const fleet = { id, path: "/projects/open/site" };
  const built = await buildHosts(api, fleet, { hosts: ["web"] });
  const hold = { id: newId(), project_id: id, commit_hash: built.commit, failed_host: "secret-host" };
  await api.db.insertInto("deployment_hold").values(hold).execute();
  const message = await wanted(fleet, "web", api.stranger);
  expect([message.state, message.can_report]).toEqual(["held", false]);
  expect(message.reason).toMatch(/failed on another host/);
  expect((await api.ask("GET", `${fleet.path}/hosts`, api.stranger)).status).toBe(404);
});

test("a failure on one host holds the commit for the others until it is released, and tells who did what", async () => {
  const fleet = await insertFleet(api);
  const bad = await buildHosts(api, fleet, { hosts: ["db", "web"] });
  await deploy(api, fleet, { host: "web", built: bad, end: "rolled_back" });
  expect(await wanted(fleet, "db")).toMatchObject({ state: "held", reason: expect.stringMatching(/failed on web/) });
  expect(await wanted(fleet, "web")).toMatchObject({
    state: "held",
    reason: expect.stringMatching(/on this host before/),
  });
  const { message: holds } = await api.ask("GET", `${fleet.path}/deployments`, api.viewer);
  expect(holds.items).toEqual([
    {
      commit: bad.commit,
      evaluation_id: bad.evaluation,
      order: bad.order,
      host: "web",
      held_by: null,
      reason: "nginx.service failed",
      since: expect.any(String),
    },
  ]);

  // The same commit once more is the same mistake; another one is none.
  const same = await buildHosts(api, fleet, { hosts: ["db", "web"], commit: bad.commit, same: bad });
  expect(await decision(fleet, "db")).toEqual(["held", same.links.db]);
  const release = `${fleet.path}/deployments/${bad.links.db}/release`;
  expect((await api.ask("POST", release, api.viewer)).status).toBe(403);
  await api.ask("POST", release, api.writer);
  expect([(await decision(fleet, "db"))[0], (await decision(fleet, "web"))[0]]).toEqual(["deploy", "held"]);
  await api.ask("POST", `${fleet.path}/hosts/web/release`, api.writer);
  expect((await decision(fleet, "web"))[0]).toBe("deploy");
  const fixed = await buildHosts(api, fleet, { hosts: ["db", "web"] });
  await deploy(api, fleet, { host: "web", built: bad, end: "rolled_back" });
  expect(await decision(fleet, "web")).toEqual(["deploy", fixed.links.web]);

  const { rows } = await sql<{ event: string; host: string | null }>`
    select event, metadata ->> 'host' as host from audit_event
    where metadata ->> 'project' = ${fleet.path.split("/").at(-1)} order by id`.execute(api.db);
  expect(rows).toEqual([
    { event: "deployment.release", host: null },
    { event: "host.release", host: "web" },
  ]);
});

test("whoever starts evaluations holds a commit back, whatever the project's setting", async () => {
  const fleet = await insertFleet(api, { deploy_hold: false });
  const built = await buildHosts(api, fleet, { hosts: ["db", "web"] });
  await deploy(api, fleet, { host: "web", built, end: "rolled_back" });
  expect([(await decision(fleet, "db"))[0], (await decision(fleet, "web"))[0]]).toEqual(["deploy", "held"]);
  const hold = (body: object, user = api.writer) =>
    api.ask("POST", `${fleet.path}/deployments/${built.links.db}/hold`, user, body);
  expect((await hold({}, api.viewer)).status).toBe(403);
  await hold({ reason: "not before Monday" });
  await hold({ reason: "not before Tuesday" });
  expect((await wanted(fleet, "db")).reason).toMatch(/Somebody holds/);
  const { message } = await api.ask("GET", `${fleet.path}/deployments`, api.viewer);
  expect(message.items).toMatchObject([{ held_by: "walt", host: null, reason: "not before Tuesday" }]);
  const other = await insertFleet(api);
  const wrong = await api.ask("POST", `${other.path}/deployments/${built.links.db}/hold`, api.writer, {});
  expect([wrong.status, wrong.message]).toEqual([404, "Build not found"]);
});

test("waves go on when those before are well, and to nobody who was never heard of before the end", async () => {
  const fleet = await insertFleet(api, { deploy_wave_percent: 50 });
  const first = await buildHosts(api, fleet, { hosts: ["a", "b", "new"] });
  for (const host of ["a", "b"]) await deploy(api, fleet, { host, built: first, end: "succeeded" });
  const next = await buildHosts(api, fleet, { hosts: ["a", "b", "new"] });
  const states = async () => [
    (await decision(fleet, "a"))[0],
    (await decision(fleet, "b"))[0],
    (await decision(fleet, "new"))[0],
  ];
  expect(await states()).toEqual(["deploy", "waiting", "waiting"]);
  expect((await wanted(fleet, "b")).reason).toMatch(/wave has not come: a does not run/);
  await deploy(api, fleet, { host: "a", built: next, end: "succeeded" });
  expect(await states()).toEqual(["deploy", "deploy", "waiting"]);
  await deploy(api, fleet, { host: "b", built: next, end: "succeeded" });
  expect(await states()).toEqual(["deploy", "deploy", "deploy"]);
  await api.ask("PATCH", fleet.path, api.admin, { deploy_soak_seconds: 3_600 });
  expect((await wanted(fleet, "new")).reason).toMatch(/not been healthy on it for long enough/);
  const before = sql<Date>`gradient_now() - interval '2 hours'`;
  const silent = { healthy_since: before, last_contact_at: before };
  await api.db.updateTable("host").set(silent).where("project_id", "=", fleet.id).execute();
  expect((await wanted(fleet, "new")).reason).toMatch(/a was not heard of after the time/);
  for (const host of ["a", "b"]) {
    const here = { step: "unchanged", running_path: next.paths[host], health: "healthy" };
    await api.ask("POST", `${fleet.path}/hosts/${host}/reports`, api.writer, report(here));
  }
  expect(await states()).toEqual(["deploy", "deploy", "deploy"]);
});

test("while builds come in, in whatever order, no host gets ahead of its wave", async () => {
  const fleet = await insertFleet(api, { deploy_wave_percent: 25, deploy_soak_seconds: 3_600 });
  const hosts = ["a", "b", "c", "d"];
  const first = await buildHosts(api, fleet, { hosts });
  for (const host of hosts) await deploy(api, fleet, { host, built: first, end: "succeeded" });
  const building = { status: EvaluationStatus.Building, buildStatus: BuildStatus.Building };
  const next = await buildHosts(api, fleet, { hosts, ...building });
  const end = (host: string, status: number) =>
    api.db
      .updateTable("build")
      .set({ status })
      .where("id", "=", next.builds[host] ?? "")
      .execute();
  for (const host of ["d", "c"]) {
    await end(host, BuildStatus.Completed);
    expect(await decision(fleet, host)).toEqual(["waiting", next.links[host]]);
  }
  expect((await wanted(fleet, "d")).reason).toMatch(/wave has not come: a does not run/);
  await end("a", BuildStatus.FailedPermanent);
  expect((await wanted(fleet, "c")).reason).toMatch(/wave has not come: b does not run/);
  await end("b", BuildStatus.Completed);
  expect([(await decision(fleet, "b"))[0], (await decision(fleet, "c"))[0]]).toEqual(["deploy", "waiting"]);
  await api.db.updateTable("evaluation").set({ building_started_at: null }).where("id", "=", next.evaluation).execute();
  expect(await wanted(fleet, "b")).toMatchObject({ state: "waiting", reason: expect.stringMatching(/which hosts/) });
});

test("a commit that is released goes on in its waves, without the host on which it failed", async () => {
  const fleet = await insertFleet(api, { deploy_wave_percent: 25 });
  const hosts = ["a", "b", "c", "d"];
  const first = await buildHosts(api, fleet, { hosts });
  for (const host of hosts) await deploy(api, fleet, { host, built: first, end: "succeeded" });
  const next = await buildHosts(api, fleet, { hosts });
  await deploy(api, fleet, { host: "a", built: next, end: "rolled_back" });
  const states = async () => await Promise.all(hosts.map(async (host) => (await decision(fleet, host))[0]));
  expect(await states()).toEqual(["held", "held", "held", "held"]);
  await api.ask("POST", `${fleet.path}/deployments/${next.links.b}/release`, api.writer);
  expect(await states()).toEqual(["held", "deploy", "waiting", "waiting"]);
  await deploy(api, fleet, { host: "b", built: next, end: "succeeded" });
  expect(await states()).toEqual(["held", "deploy", "deploy", "waiting"]);
});

const waitFor = (fleet: Fleet, query: Record<string, string>, signal?: AbortSignal) =>
  api.fetch("GET", `${fleet.path}/hosts/web/wanted?${new URLSearchParams({ wait: "50", ...query })}`, api.writer, {
    ...(signal && { signal }),
  });
const stateOf = async (answer: Promise<Response>) => {
  const { message } = (await (await answer).json()) as {
    message: { state: string; build: { build_id: string } | null };
  };
  return [message.state, message.build?.build_id];
};
const until = async (condition: () => boolean) => {
  while (!condition()) await sleep(5);
};

test("an answer waits until there is another one: a build, a hold, a release", async () => {
  const fleet = await insertFleet(api);
  const first = stateOf(waitFor(fleet, { seen: "none", seen_state: "none" }));
  await until(() => api.listeners("deployment") > 0);
  const built = await buildHosts(api, fleet, { hosts: ["web"] });
  api.notifier.notify("evaluation", built.evaluation);
  expect(await first).toEqual(["deploy", built.links.web]);

  const seen = { seen: built.links.web ?? "", seen_state: "deploy" };
  const second = stateOf(waitFor(fleet, seen));
  await until(() => api.listeners("deployment") > 0);
  await api.ask("POST", `${fleet.path}/deployments/${built.links.web}/hold`, api.writer, {});
  expect(await second).toEqual(["held", built.links.web]);
  // What differs already is told at once.
  expect(await stateOf(waitFor(fleet, seen))).toEqual(["held", built.links.web]);

  const third = stateOf(waitFor(fleet, { ...seen, seen_state: "held" }));
  await api.ask("POST", `${fleet.path}/deployments/${built.links.web}/release`, api.writer);
  expect(await third).toEqual(["deploy", built.links.web]);
});

test("word of a deployment or an evaluation is enough: nobody has to wait for the next look", async () => {
  for (const topic of ["deployment", "evaluation"] as const) {
    const fleet = await insertFleet(api);
    const clock = new ManualClock();
    const watch = new FleetWatch({ ...api.deps, clock });
    const seen = { build: "none", state: "none" } as const;
    const signal = new AbortController().signal;
    let told = false;
    const waiting = watch.untilOther(fleet.id, "web", { seen, atMostMs: 60_000, signal }).then(() => {
      told = true;
    });
    // Its own end, and the pause after the first look.
    await until(() => clock.pending === 2);
    const built = await buildHosts(api, fleet, { hosts: ["web"] });
    await clock.advance(1_000);
    expect(told).toBe(false);
    api.notifier.notify(topic, topic === "deployment" ? fleet.id : built.evaluation);
    await expect.poll(() => told, { timeout: 20_000, interval: 5 }).toBe(true);
    await waiting;
    expect(clock.pending).toBe(0);
  }
});

test("who goes away leaves nothing behind", async () => {
  const fleet = await insertFleet(api);
  const gone = new AbortController();
  const left = waitFor(fleet, { seen: "none", seen_state: "none" }, gone.signal);
  await until(() => api.listeners("deployment") > 0);
  gone.abort();
  await left.catch(() => {});
  await until(() => api.listeners("deployment") === 0);
});

test("who has too many answers open is told so", async () => {
  const fleet = await insertFleet(api);
  const app = new Hono<AppEnv>().onError(errorResponder(api.deps.log));
  app.use(async (c, next) => {
    c.set("actor", api.writer.actor);
    await next();
  });
  app.route("/", hostRoutes(api.deps, { clientWaitingMax: 1 }));
  const url = `${fleet.path}/hosts/web/wanted?wait=50&seen_state=none`;
  const gone = new AbortController();
  const waiting = app.request(url, { signal: gone.signal });
  await until(() => api.listeners("deployment") > 0);
  expect((await app.request(url)).status).toBe(429);
  expect((await app.request(`${fleet.path}/hosts/web/wanted`)).status).toBe(200);
  gone.abort();
  await waiting;
});

test("a question that cannot be is refused with words", async () => {
  const fleet = await insertFleet(api);
  for (const query of ["wait=61", "wait=x", "seen=1", "seen_state=up"]) {
    const answer = await api.ask("GET", `${fleet.path}/hosts/web/wanted?${query}`, api.viewer);
    expect([query, answer.status, answer.code]).toEqual([query, 400, "validation"]);
  }
  const wrong = await api.ask("POST", `${fleet.path}/hosts/web/reports`, api.writer, report({ running_path: "/etc" }));
  expect([wrong.status, wrong.message]).toEqual([
    400,
    expect.stringMatching(/running_path: must be a whole store path/),
  ]);
});
