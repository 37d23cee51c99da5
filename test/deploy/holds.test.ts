import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { git } from "../support/git.ts";
import { nixAvailable } from "../support/nix.ts";
import { type Fleet, PROJECT, type Published, withFleet } from "./support/fleet.ts";
import type { Host } from "./support/host.ts";
import { viewOf } from "./support/server-view.ts";

const nix = nixAvailable();
const HOSTS = ["alpha", "beta"];

describe.skipIf(!nix.ok)("what failed on one host", () => {
  let fleet: Fleet;
  let alpha: Host;
  let beta: Host;
  beforeAll(async () => {
    fleet = await withFleet({ label: "good", hosts: HOSTS });
    const good = await fleet.evaluate();
    alpha = await fleet.hostWith("alpha", good.systems.alpha as string);
    beta = await fleet.hostWith("beta", good.systems.beta as string);
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());

  /** A branch whose commit changes no system. */
  async function buildElsewhere(): Promise<Published> {
    await git(fleet.repository, "checkout", "-q", "-b", "topic");
    await writeFile(join(fleet.repository, "README"), "only words\n");
    await git(fleet.repository, "add", "-A");
    await git(fleet.repository, "commit", "-q", "-m", "only words");
    await git(fleet.repository, "checkout", "-q", "main");
    return await fleet.evaluate("topic");
  }

  test("is kept from the others, whatever another branch built later, and whatever the script printed", async () => {
    const bad = await fleet.publish({ label: "bad", hosts: HOSTS });
    expect((await buildElsewhere()).systems).toEqual(bad.systems);
    await alpha.behave("bad", String.raw`printf 'boom \000 \377\376 \033[31m' >&2; exit 4`);
    expect(await alpha.run()).toMatchObject({ end: "rolled-back" });
    const { wanted, last_run } = await viewOf(fleet, "alpha");
    expect(last_run).toMatchObject({ step: "rolled_back", branch: "main", commit: wanted?.commit });
    expect(await viewOf(fleet, "beta")).toMatchObject({ state: "held", wanted: { commit: wanted?.commit } });
    expect(await beta.run()).toMatchObject({ end: "held" });
  });

  test("is not tried there again because somebody forgot the host, but when it was released", async () => {
    const address = `/projects/${PROJECT}/hosts/alpha`;
    const switches = await alpha.switches();
    await fleet.gradient.api.request("DELETE", address);
    for (const _ of [1, 2]) expect(await alpha.run()).toMatchObject({ end: "bad-build" });
    expect(await alpha.switches()).toEqual(switches);

    await alpha.behave("bad", "");
    await fleet.gradient.api.request("POST", `${address}/release`, {});
    expect(await alpha.run()).toMatchObject({ end: "deployed" });
  });
});
