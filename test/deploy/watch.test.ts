import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { type Fleet, PROJECT, type Published, withFleet } from "./support/fleet.ts";
import { type Host, readRun } from "./support/host.ts";
import { expectSettled, viewOf } from "./support/server-view.ts";

const nix = nixAvailable();
const HOSTS = ["alpha", "beta"];

/** One story: each test goes on where the one before it has ended. */
describe.skipIf(!nix.ok)("two hosts of one project", () => {
  let fleet: Fleet;
  let alpha: Host;
  let beta: Host;
  let good: Published;
  beforeAll(async () => {
    fleet = await withFleet({ label: "one", hosts: HOSTS });
    good = await fleet.evaluate();
    [alpha, beta] = await Promise.all(["alpha", "beta"].map(hostOf) as [Promise<Host>, Promise<Host>]);
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());
  const hostOf = (name: string) => fleet.hostWith(name, good.systems[name] as string);
  const settled = (host: Host, { systems }: Published) => expectSettled(fleet, host, systems[host.name] as string);

  /** Starts the agent's watch and resolves when its question waits at the server. */
  async function watch(host: Host) {
    const before = fleet.network.seen.length;
    const agent = host.start(["watch", "--json"]);
    const waits = (line: string) => line.includes(`/hosts/${host.name}/wanted`) && line.includes("wait=");
    const asked = () => fleet.network.seen.slice(before).some(waits);
    const ended = agent.ended.then((code) => readRun(code, agent.output()));
    await Promise.race([expect.poll(asked).toBe(true), ended]);
    return { agent, ended };
  }

  test("a host that watches takes a new build at once, while the other keeps what it has", async () => {
    expect(await beta.run()).toMatchObject({ end: "up-to-date" });
    const { ended } = await watch(alpha);
    const second = await fleet.publish({ label: "two", hosts: HOSTS });
    expect(await ended).toMatchObject({ end: "deployed", code: 0 });
    await settled(alpha, second);
    expect(await viewOf(fleet, "beta")).toMatchObject({
      up_to_date: false,
      present: { store_path: good.systems.beta },
      wanted: { store_path: second.systems.beta },
    });
    expect(await beta.run()).toMatchObject({ end: "deployed" });
    await settled(beta, second);
    good = second;
  });

  test("a watch survives the server's absence, and ends when it is told to", async () => {
    const { agent } = await watch(alpha);
    fleet.network.cut();
    await agent.waitFor('"level":"warn"');
    fleet.network.mend();
    const seen = fleet.network.seen.length;
    await expect.poll(() => fleet.network.seen.length).toBeGreaterThan(seen);
    process.kill(agent.pid, "SIGTERM");
    expect(await agent.ended).not.toBe(null);
    await settled(alpha, good);
  });

  test("what failed on one is held back from the other, until an operator releases it", async () => {
    await alpha.behave("three", "exit 4");
    const third = await fleet.publish({ label: "three", hosts: HOSTS });
    expect(await alpha.run()).toMatchObject({ end: "rolled-back", code: 40 });
    await settled(alpha, good);

    const held = await beta.run();
    expect(held).toMatchObject({ end: "held", code: 10, reason: expect.stringContaining("alpha") });
    await settled(beta, good);
    const view = await viewOf(fleet, "beta");
    expect(view).toMatchObject({ state: "held", reason: expect.stringContaining("alpha"), up_to_date: false });

    const { ended } = await watch(beta);
    await fleet.gradient.api.request("POST", `/projects/${PROJECT}/deployments/${view.wanted?.build_id}/release`, {});
    expect(await ended).toMatchObject({ end: "deployed", code: 0 });
    await settled(beta, third);
    // The host that it failed on does not get it again by that.
    expect((await alpha.run()).code).not.toBe(0);
    await settled(alpha, good);
  });

  test("with waves, the second wave waits until the first is well", async () => {
    await fleet.gradient.api.request("PATCH", `/projects/${PROJECT}`, { deploy_wave_percent: 50 });
    const fourth = await fleet.publish({ label: "four", hosts: HOSTS });
    const waiting = await beta.run();
    expect(waiting).toMatchObject({ end: "waiting", code: 11 });
    expect(waiting.reason).not.toBe("");

    const { ended } = await watch(beta);
    expect(await alpha.run()).toMatchObject({ end: "deployed" });
    await settled(alpha, fourth);
    expect(await ended).toMatchObject({ end: "deployed", code: 0 });
    await settled(beta, fourth);
  });
});
