import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { type Fleet, type Published, withFleet } from "./support/fleet.ts";
import { isWhole } from "./support/host.ts";

const nix = nixAvailable();

describe.skipIf(!nix.ok)("the fleet that the tests of deployments rest on", () => {
  let fleet: Fleet;
  let first: Published;
  beforeAll(async () => {
    fleet = await withFleet({ label: "one", hosts: ["alpha", "beta"], broken: ["beta"] });
    first = await fleet.evaluate();
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());

  test("builds what builds, and a host installs it with the signatures of the cache", async () => {
    expect(Object.keys(first.systems)).toEqual(["alpha"]);
    const path = first.systems.alpha as string;
    const host = await fleet.hostWith("alpha", path);
    expect(await host.present()).toEqual({ profile: path, current: path, booted: path, bootDefault: path });
    expect(await host.switches()).toEqual(["begin boot one", "end boot one 0"]);
    expect(await isWhole(host, path)).toBe(true);
  });
});
