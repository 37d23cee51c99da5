import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { type Fleet, type Published, withFleet } from "./support/fleet.ts";
import { isWhole } from "./support/host.ts";
import { expectRuns, expectSettled, historyOf, stepsOf, viewOf } from "./support/server-view.ts";

const nix = nixAvailable();
const HOSTS = ["alpha", "beta", "gamma", "delta", "epsilon"];

describe.skipIf(!nix.ok)("a host takes what was built for it", () => {
  let fleet: Fleet;
  let first: Published;
  let second: Published;
  beforeAll(async () => {
    fleet = await withFleet({ label: "one", hosts: HOSTS });
    first = await fleet.evaluate();
    second = await fleet.publish({ label: "two", hosts: HOSTS });
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());
  const path = (of: Published, host: string) => of.systems[host] as string;
  const old = (name: string) => fleet.hostWith(name, path(first, name));

  test("the new system is substituted, runs, is booted next, and the server knows each step", async () => {
    const host = await old("alpha");
    const wanted = path(second, "alpha");
    expect(await host.run()).toMatchObject({ end: "deployed", code: 0 });

    await expectSettled(fleet, host, wanted);
    expect((await host.switches()).slice(2)).toEqual(["begin switch two", "end switch two 0"]);
    const view = await viewOf(fleet, "alpha");
    expect(view).toMatchObject({ state: "deploy", up_to_date: true, health: "healthy", generation: 2 });
    const [run] = await historyOf(fleet, "alpha");
    expect(run).toMatchObject({ store_path: wanted, mode: "switch", step: "succeeded" });
    expect(stepsOf(run)).toEqual(["started", "downloading", "activating", "checking", "succeeded"]);

    const seen = fleet.network.seen.length;
    expect(await host.run()).toMatchObject({ end: "up-to-date", code: 0 });
    expect((await host.switches()).length, "nothing is switched again").toBe(4);
    const requests = fleet.network.seen.slice(seen);
    expect(requests.filter((line) => !line.includes("/api/v1/projects/acme/fleet/hosts/alpha/"))).toEqual([]);
    expect(requests.length).toBeLessThanOrEqual(2);
    await expectSettled(fleet, host, wanted);
    expect(await historyOf(fleet, "alpha")).toHaveLength(1);
  });

  test("for the next boot, and is known to run when the host has booted it", async () => {
    const host = await old("beta");
    const [before, wanted] = [path(first, "beta"), path(second, "beta")];
    host.env.GRADIENT_DEPLOY_MODE = "boot";
    expect(await host.run()).toMatchObject({ end: "will-boot", code: 0 });
    expect(await host.present()).toEqual({ profile: wanted, current: before, booted: before, bootDefault: wanted });
    expect(await viewOf(fleet, "beta")).toMatchObject({ present: { store_path: before }, booted_path: before });

    await host.boot();
    expect((await host.run()).code).toBe(0);
    await expectSettled(fleet, host, wanted);
    expect(await viewOf(fleet, "beta")).toMatchObject({ up_to_date: true, health: "healthy", booted_path: wanted });
  });

  test("as a trial that the next boot forgets, or dry, with nothing changed", async () => {
    const host = await old("gamma");
    const [before, wanted] = [path(first, "gamma"), path(second, "gamma")];
    const asBefore = { profile: before, current: before, booted: before, bootDefault: before };
    host.env.GRADIENT_DEPLOY_MODE = "dry-activate";
    expect(await host.run()).toMatchObject({ end: "dry-activated", code: 0 });
    expect(await host.present()).toEqual(asBefore);
    expect(await isWhole(host, wanted)).toBe(true);
    expect(await viewOf(fleet, "gamma")).toMatchObject({ present: { store_path: before }, up_to_date: false });

    host.env.GRADIENT_DEPLOY_MODE = "test";
    expect(await host.run()).toMatchObject({ end: "deployed", code: 0 });
    expect(await host.present()).toEqual({ ...asBefore, current: wanted });
    expect(await viewOf(fleet, "gamma")).toMatchObject({ present: { store_path: wanted }, booted_path: before });
    await host.boot();
    expect(await host.present()).toEqual(asBefore);
  });

  test("with a key that may not report it is said once, and all goes on", async () => {
    const host = await fleet.host("delta", await fleet.key("readers", ["viewOrg"]));
    const { cache, publicKey } = await fleet.cache();
    await host.install(path(first, "delta"), { cache, publicKey });
    const run = await host.run();
    expect(run).toMatchObject({ end: "deployed", code: 0 });
    expect(run.output).toContain("may not report");
    await expectRuns(host, path(second, "delta"));
    expect(await viewOf(fleet, "delta")).toMatchObject({ known: false, present: null });

    const again = await host.run();
    expect(again).toMatchObject({ end: "up-to-date", code: 0 });
    expect(again.output).not.toContain("may not report");
  });

  test("from a private cache with nothing but the server, the project and a key that may read", async () => {
    await fleet.gradient.api.request("DELETE", "/caches/main/public");
    const { cache } = await fleet.cache();
    expect((await fetch(`${cache}/nix-cache-info`)).status).not.toBe(200);
    const host = await fleet.host("epsilon");
    expect(await host.run()).toMatchObject({ end: "deployed", code: 0 });
    await expectSettled(fleet, host, path(second, "epsilon"));
    expect(await viewOf(fleet, "epsilon")).toMatchObject({ generation: 1, booted_path: null });
  });
});
