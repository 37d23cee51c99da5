import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { type Fleet, PROJECT, type Published, withFleet } from "./support/fleet.ts";
import type { Host } from "./support/host.ts";
import { expectSettled, historyOf, stepsOf, viewOf } from "./support/server-view.ts";

const nix = nixAvailable();
const HOSTS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"];

describe.skipIf(!nix.ok)("a system that fails is left for the one before", () => {
  let fleet: Fleet;
  let good: Published;
  let bad: Published;
  beforeAll(async () => {
    fleet = await withFleet({ label: "good", hosts: HOSTS });
    // Each host shows a failure of its own, which would hold the commit back for the others.
    await fleet.gradient.api.request("PATCH", `/projects/${PROJECT}`, { deploy_hold: false });
    good = await fleet.evaluate();
    bad = await fleet.publish({ label: "bad", hosts: HOSTS });
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());
  const pathOf = (of: Published, host: Host) => of.systems[host.name] as string;
  const hostOf = (name: string) => fleet.hostWith(name, good.systems[name] as string);

  /** The host is as before, the server knows why, and the build is not tried again by itself. */
  async function expectRolledBack(host: Host): Promise<void> {
    const [before, failed] = [pathOf(good, host), pathOf(bad, host)];
    await expectSettled(fleet, host, before);
    const view = await viewOf(fleet, host.name);
    expect(view).toMatchObject({ state: "held", up_to_date: false, failed_paths: [{ store_path: failed }] });
    const run = (await historyOf(fleet, host.name))[0];
    expect(run).toMatchObject({ store_path: failed, step: "rolled_back" });
    const switches = await host.switches();
    expect(await host.run()).toMatchObject({ end: "bad-build", code: 13 });
    expect(await host.switches()).toEqual(switches);
  }

  test("when its switch script fails", async () => {
    const host = await hostOf("alpha");
    await host.behave("bad", "echo the switch has its reasons >&2; exit 4");
    expect(await host.run()).toMatchObject({ end: "rolled-back", code: 40 });
    expect((await host.switches()).slice(2)).toEqual([
      "begin switch bad",
      "end switch bad 4",
      "begin switch good",
      "end switch good 0",
    ]);
    expect((await viewOf(fleet, "alpha")).failed_paths[0]?.reason).toContain("the switch said it was done, but ");
    await expectRolledBack(host);

    // An operator has mended what was wrong with the host, and lets it try again.
    await host.behave("bad", "");
    await fleet.gradient.api.request("POST", `/projects/${PROJECT}/hosts/alpha/release`, {});
    expect(await host.run("--force")).toMatchObject({ end: "deployed", code: 0 });
    await expectSettled(fleet, host, pathOf(bad, host));
    expect(await viewOf(fleet, "alpha")).toMatchObject({ state: "deploy", up_to_date: true, failed_paths: [] });
  });

  test("when its switch script hangs", async () => {
    const host = await hostOf("beta");
    await host.behave("bad", "sleep 3600");
    host.env.GRADIENT_DEPLOY_SWITCH_TIMEOUT_SECS = "1";
    expect(await host.run()).toMatchObject({ end: "rolled-back", code: 40 });
    await expectRolledBack(host);
  });

  test("when a unit fails that did not fail before", async () => {
    const host = await hostOf("gamma");
    await host.units("printer.service");
    await host.behave("bad", 'echo web.service >> "$root/units/failed"', "after");
    await host.behave("good", 'echo printer.service > "$root/units/failed"');
    expect(await host.run()).toMatchObject({
      end: "unhealthy",
      code: 41,
      reason: expect.stringContaining("web.service"),
    });
    expect((await historyOf(fleet, "gamma"))[0]).toMatchObject({ failed_units: ["web.service"] });
    await expectRolledBack(host);
  });

  test("when a health command fails", async () => {
    const host = await hostOf("delta");
    host.env.GRADIENT_DEPLOY_HEALTH_COMMANDS = JSON.stringify([
      "true",
      `test "$(cat '${join(host.root, "run/who")}')" != bad`,
    ]);
    await host.behave("bad", 'echo bad > "$root/run/who"', "after");
    await host.behave("good", 'echo good > "$root/run/who"', "after");
    expect(await host.run()).toMatchObject({ end: "unhealthy", code: 41 });
    await expectRolledBack(host);
  });

  test("when it breaks the network; what could not be told then is told by the next run", async () => {
    const host = await hostOf("epsilon");
    fleet.network.downFile = join(host.root, "run/network-down");
    await host.behave("bad", 'touch "$root/run/network-down"', "after");
    await host.behave("good", 'rm -f "$root/run/network-down"', "after");
    const broken = await host.run();
    fleet.network.downFile = null;
    expect(broken).toMatchObject({ end: "unhealthy", code: 41 });
    await expectRolledBack(host);
    const run = (await historyOf(fleet, "epsilon"))[0];
    expect(stepsOf(run)).toEqual(expect.arrayContaining(["activating", "checking", "rolled_back"]));
  });

  test("and where the way back fails too, it is said, and tried again until it works", async () => {
    const host = await hostOf("zeta");
    await host.behave("bad", "exit 4");
    await host.behave("good", "exit 5");
    expect(await host.run()).toMatchObject({ end: "rollback-failed", code: 43 });
    expect(await viewOf(fleet, "zeta")).toMatchObject({ health: "unhealthy" });

    await host.behave("good", "");
    await host.run();
    await expectRolledBack(host);
  });
});
