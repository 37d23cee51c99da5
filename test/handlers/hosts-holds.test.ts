import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { buildHosts, deploy, type Fleet, insertFleet, report } from "../support/hosts.ts";
import { newId } from "../support/rows.ts";

let api: BuildsApi;
beforeAll(async () => {
  api = await withBuildsApi();
});
afterAll(() => api[Symbol.asyncDispose]());

const tell = (fleet: Fleet, host: string, more: object) =>
  api.ask("POST", `${fleet.path}/hosts/${host}/reports`, api.writer, report(more));
const show = async (fleet: Fleet, host: string) =>
  (await api.ask("GET", `${fleet.path}/hosts/${host}`, api.viewer)).message;
const stateOf = async (fleet: Fleet, host: string) =>
  (await api.ask("GET", `${fleet.path}/hosts/${host}/wanted`, api.viewer)).message.state;
const heldCommits = async (fleet: Fleet) => {
  const { items } = (await api.ask("GET", `${fleet.path}/deployments`, api.viewer)).message;
  return items.map(({ commit }: { commit: string }) => commit).sort();
};
const HOSTS = { hosts: ["alpha", "beta"] };

test("a failure holds the commit that the host was offered, whatever else has built the same system", async () => {
  const fleet = await insertFleet(api);
  const main = await buildHosts(api, fleet, HOSTS);
  const elsewhere = [
    { branch: "topic" },
    { branch: "topic", deploys: false },
    { branch: "main", deploys: false },
    { branch: "main", trusted: false },
    { branch: null, deploys: false, trusted: false },
  ];
  for (const where of elsewhere) await buildHosts(api, fleet, { ...HOSTS, ...where, same: main });
  await deploy(api, fleet, { host: "alpha", built: main, end: "rolled_back" });
  expect(await heldCommits(fleet)).toEqual([main.commit]);
  expect([await stateOf(fleet, "alpha"), await stateOf(fleet, "beta")]).toEqual(["held", "held"]);
  await tell(fleet, "beta", { step: "unchanged", running_path: main.paths.beta });
  expect((await show(fleet, "beta")).present).toMatchObject({ branch: "main", commit: main.commit });
});

test("a build of another project, host, branch's proposal or system is not what the host was offered", async () => {
  const fleet = await insertFleet(api);
  const main = await buildHosts(api, fleet, HOSTS);
  const other = await insertFleet(api);
  const elsewhere = await buildHosts(api, other, { ...HOSTS, same: main });
  const proposed = await buildHosts(api, fleet, { ...HOSTS, branch: null, trusted: false, same: main });
  const older = await buildHosts(api, fleet, { ...HOSTS, branch: "topic" });
  const builds = [elsewhere.links.alpha, proposed.links.alpha, older.links.alpha, main.links.beta, newId(), null];
  for (const build_id of builds) {
    await tell(fleet, "alpha", { step: "started", build_id, store_path: main.paths.alpha });
    expect((await show(fleet, "alpha")).last_run).toMatchObject({ commit: main.commit, build_id: main.links.alpha });
  }
});

test("where the branch came to the same system meanwhile, its newest commit is held as well", async () => {
  const fleet = await insertFleet(api);
  const offered = await buildHosts(api, fleet, HOSTS);
  const newest = await buildHosts(api, fleet, { ...HOSTS, same: offered });
  await deploy(api, fleet, { host: "alpha", built: offered, end: "rolled_back" });
  expect(await heldCommits(fleet)).toEqual([offered.commit, newest.commit].sort());
  expect(await stateOf(fleet, "beta")).toBe("held");
  expect((await show(fleet, "alpha")).last_run.commit).toBe(offered.commit);
});

test("what failed on a host is kept from it when the host is forgotten, until somebody releases it", async () => {
  const fleet = await insertFleet(api, { deploy_hold: false });
  const bad = await buildHosts(api, fleet, HOSTS);
  const forget = async () => expect((await api.ask("DELETE", `${fleet.path}/hosts/alpha`, api.admin)).status).toBe(200);
  const release = () => api.ask("POST", `${fleet.path}/hosts/alpha/release`, api.writer);
  await deploy(api, fleet, { host: "alpha", built: bad, end: "rolled_back" });
  await forget();
  expect(await show(fleet, "alpha")).toMatchObject({
    known: false,
    state: "held",
    failed_paths: [{ store_path: bad.paths.alpha, reason: "nginx.service failed" }],
  });
  expect(await stateOf(fleet, "beta")).toBe("deploy");
  await tell(fleet, "alpha", { step: "unchanged" });
  expect(await stateOf(fleet, "alpha")).toBe("held");
  await forget();
  expect((await release()).status).toBe(200);
  expect(await stateOf(fleet, "alpha")).toBe("deploy");
  expect((await release()).status).toBe(404);
});
