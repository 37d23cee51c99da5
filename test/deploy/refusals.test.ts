import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable, nixOutput } from "../support/nix.ts";
import { type Fleet, type Published, withFleet } from "./support/fleet.ts";
import type { Host } from "./support/host.ts";
import { expectRuns, expectSettled, viewOf } from "./support/server-view.ts";

const nix = nixAvailable();
const HOSTS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"];

describe.skipIf(!nix.ok)("a host keeps what it has", () => {
  let fleet: Fleet;
  let first: Published;
  let second: Published;
  beforeAll(async () => {
    fleet = await withFleet({ label: "one", hosts: HOSTS });
    first = await fleet.evaluate();
    second = await fleet.publish({ label: "two", hosts: HOSTS });
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());
  const hostOf = (name: string) => fleet.hostWith(name, first.systems[name] as string);

  async function expectUntouched(host: Host): Promise<void> {
    await expectRuns(host, first.systems[host.name] as string);
    expect(await host.switches(), "no switch script ran").toHaveLength(2);
  }

  test("when the cache's signatures are not those that the server names, and says whose they are not", async () => {
    const host = await hostOf("alpha");
    const wrong = join(host.daemon.folder, "wrong");
    await nixOutput(["nix-store", "--generate-binary-cache-key", "wrong-1", wrong, `${wrong}.pub`], host.daemon.env);
    const publicKey = await nixOutput(["cat", `${wrong}.pub`], {});
    fleet.network.rewrite = (_, body) => body.replaceAll(/"public_keys":\[[^\]]*\]/g, `"public_keys":["${publicKey}"]`);
    const run = await host.run();
    fleet.network.rewrite = null;
    expect(run).toMatchObject({ end: "bad-signature", code: 31 });
    expect(run.reason).toContain("nixos-system-alpha");
    await expectUntouched(host);
    const view = await viewOf(fleet, "alpha");
    expect(view).toMatchObject({ state: "deploy", up_to_date: false, present: { store_path: first.systems.alpha } });

    expect(await host.run()).toMatchObject({ end: "deployed", code: 0 });
    await expectSettled(fleet, host, second.systems.alpha as string);
  });

  test("when the key is wrong, withdrawn, or not for this project, in words that tell which", async () => {
    const host = await hostOf("beta");
    const keyFile = host.env.GRADIENT_DEPLOY_API_KEY_FILE as string;
    await writeFile(keyFile, `GRAD${"x".repeat(40)}\n`);
    const wrong = await host.run();
    expect(wrong).toMatchObject({ end: "unauthorized", code: 21 });
    expect(wrong.reason).toContain("key");

    await writeFile(keyFile, await fleet.key("short-lived", ["viewOrg"]));
    await fleet.gradient.api.request("DELETE", "/user/keys", { name: "short-lived" });
    expect(await host.run()).toMatchObject({ end: "unauthorized", code: 21 });

    await writeFile(keyFile, "");
    expect(await host.run()).toMatchObject({ end: "key-file", code: 3, reason: expect.stringContaining(keyFile) });

    await writeFile(keyFile, fleet.apiKey);
    host.env.GRADIENT_DEPLOY_PROJECT = "acme/nosuch";
    const absent = await host.run();
    expect(absent).toMatchObject({ end: "not-found", code: 22, reason: expect.stringContaining("acme/nosuch") });
    await expectUntouched(host);
  });

  test("when the server is away, or answers what nobody understands", async () => {
    const host = await hostOf("gamma");
    fleet.network.cut();
    expect(await host.run()).toMatchObject({ end: "unreachable", code: 20 });
    fleet.network.mend();
    fleet.network.answer = (line) => (line.includes("/wanted") ? { status: 502, body: "<html>" } : null);
    expect(await host.run()).toMatchObject({ end: "unreachable", code: 20 });
    fleet.network.answer = (line) => (line.includes("/wanted") ? { status: 200, body: "<html>" } : null);
    expect(await host.run()).toMatchObject({ end: "bad-answer", code: 23 });
    fleet.network.answer = () => null;
    await expectUntouched(host);
  });

  test("when a path is in no cache, which it names, and goes on with what it has when it is there again", async () => {
    const host = await hostOf("delta");
    const missing = { status: 404, body: "" };
    fleet.network.answer = (line) => (line.includes("/nar/") ? missing : null);
    const run = await host.run();
    fleet.network.answer = () => null;
    expect(run).toMatchObject({ end: "missing-path", code: 30 });
    expect(run.reason).toMatch(/\/nix\/store\/[a-z0-9]{32}-/);
    await expectUntouched(host);
    expect(await host.run()).toMatchObject({ end: "deployed" });
  });

  test("when the download breaks off, until it comes through", async () => {
    const host = await hostOf("epsilon");
    let narRequests = 0;
    // The first file comes; then the network is gone.
    fleet.network.watch = (line, ended) => {
      if (ended && line.includes("/nar/") && ++narRequests === 1) fleet.network.cut();
    };
    const run = await host.run();
    fleet.network.watch = () => {};
    fleet.network.mend();
    expect(run.code).toBeGreaterThanOrEqual(20);
    await expectUntouched(host);
    expect(await host.run()).toMatchObject({ end: "deployed" });
    await expectSettled(fleet, host, second.systems.epsilon as string);
  });

  test("when another run is at work; the other comes to its end", async () => {
    const host = await hostOf("zeta");
    await host.behave("two", 'while [ ! -e "$root/run/go-on" ]; do sleep 0.05; done');
    const running = host.run();
    await expect.poll(host.switches).toContain("begin switch two");
    expect(await host.run()).toMatchObject({ end: "locked", code: 15 });
    await writeFile(join(host.root, "run/go-on"), "");
    expect(await running).toMatchObject({ end: "deployed", code: 0 });
    await expectSettled(fleet, host, second.systems.zeta as string);
  });
});
