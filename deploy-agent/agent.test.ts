import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type AgentRun, both, endOf, NEW, NEWER, OLD, withDeployRoot } from "#test/support/deploy-root.ts";

const root = await withDeployRoot();
beforeEach(() => root.reset());
afterAll(() => root[Symbol.asyncDispose]());

const UNSIGNED = "is not signed by any of the keys in 'trusted-public-keys'";

function expectEnd(run: AgentRun, end: string, code: number): void {
  expect({ ...run.json, code: run.code }, run.stderr).toMatchObject({ end, exit_code: code, code });
}

describe("a new build", () => {
  test("is fetched, set, switched to and told step by step; then there is nothing to do", async () => {
    expectEnd(await root.run(), "deployed", 0);
    expect(root.links).toEqual(both(NEW));
    expect(root.steps()).toEqual(["started", "downloading", "activating", "checking", "succeeded"]);
    expect(root.reports.map(({ sequence }) => sequence)).toEqual([0, 1, 2, 3, 4]);
    expect(root.reports.at(-1)).toMatchObject({ running_path: NEW, generation: 2, health: "healthy", exit_code: 0 });

    expectEnd(await root.run(), "up-to-date", 0);
    expect(root.steps().slice(5)).toEqual(["unchanged"]);
    expect(root.read("switches").trim()).toBe(`switch ${NEW}`);
  });

  test("is fetched with signatures on, and never built; the key is for the server's machine alone", async () => {
    root.write("own-netrc", "machine other.example.com password secret\n");
    expectEnd(await root.run(), "deployed", 0);
    const call = root
      .read("calls")
      .split("\n")
      .find((line) => line.startsWith(`nix-store --realise ${NEW}`) && !line.includes("--dry-run"));
    expect(call).not.toContain(".drv");
    for (const option of ["require-sigs true", "fallback false", "builders "])
      expect(call).toContain(`--option ${option}`);
    expect(call).toContain(`--option extra-substituters ${root.origin}/cache/main`);
    expect(call).toContain("--option extra-trusted-public-keys k-1:AAAA");
    expect(root.read("netrc-seen")).toBe(
      "machine 127.0.0.1 login gradient-deploy password GRAD0123456789abcdef\n" +
        "machine other.example.com password secret\n",
    );
    expect(root.read("netrc-mode").trim()).toBe("600");
    expect(existsSync(join(root.path, "state/netrc"))).toBe(false);
    expect(root.link("state/roots/next")).toBe(NEW);
    expect(root.link("state/roots/before")).toBe(OLD);
  });

  test.each([
    ["switch", both(NEW), "deployed", `switch ${NEW}`],
    ["boot", { profile: NEW, running: OLD }, "will-boot", `boot ${NEW}`],
    ["test", { profile: OLD, running: NEW }, "deployed", `test ${NEW}`],
    ["dry-activate", both(OLD), "dry-activated", `dry-activate ${NEW}`],
  ])("in the mode %s changes just what that mode changes", async (mode, links, end, call) => {
    root.set("MODE", mode);
    expectEnd(await root.run(), end, 0);
    expect(root.links).toEqual(links);
    expect(root.read("switches").trim()).toBe(call);
    expect(root.reports.at(-1)).toMatchObject({ step: "succeeded", mode });
  });

  test.each([
    ["held", 10],
    ["waiting", 11],
  ])("that is %s is left until it is forced", async (state, code) => {
    root.offer(NEW, 2, { state, reason: "the reason" });
    const run = await root.run();
    expectEnd(run, state, code);
    expect(run.json.reason).toBe("the reason");
    expect(root.links).toEqual(both(OLD));
    expectEnd(await root.run("--force"), "deployed", 0);
  });

  test("that is older than the last one is refused, unless it is allowed", async () => {
    root.publish(NEWER);
    root.offer(NEWER, 3);
    await root.run();
    root.offer(NEW, 2);
    expectEnd(await root.run(), "older", 12);
    expect(root.links).toEqual(both(NEWER));
    expectEnd(await root.run("--allow-older"), "deployed", 0);
    expect(root.links).toEqual(both(NEW));
  });

  test("that is not there is an end of its own", async () => {
    root.offer(NEW, 2, { state: "none", build: null, reason: "nobody built it" });
    expectEnd(await root.run(), "nothing-built", 14);
    expect(root.reports).toMatchObject([{ step: "unchanged", running_path: OLD }]);
  });
});

describe("a build that fails", () => {
  async function expectRolledBack(end: string, code: number): Promise<AgentRun> {
    const run = await root.run();
    expectEnd(run, end, code);
    expect(root.links).toEqual(both(OLD));
    expect(root.link("nix/profiles/system")).toBe("system-1-link");
    expect(root.read("switches").trim().split("\n").at(-1)).toBe(`switch ${OLD}`);
    return run;
  }

  test("is undone, told and not tried again by itself; a newer one is", async () => {
    root.publish(NEW, "echo its reasons >&2; exit 3\n");
    const run = await expectRolledBack("rolled-back", 40);
    expect(run.json.reason).toContain("ended with 3: its reasons");
    expect(root.steps()).toEqual(["started", "downloading", "activating", "failed", "rolled_back"]);

    root.offer(NEW, 2, { state: "held", reason: "it failed here" });
    expectEnd(await root.run(), "bad-build", 13);
    root.publish(NEWER);
    root.offer(NEWER, 3);
    expectEnd(await root.run(), "deployed", 0);
  });

  test("is tried again when the server, who knows of it, offers it again", async () => {
    root.publish(NEW, 'if [ ! -e "$root/mended" ]; then exit 3; fi\n');
    await expectRolledBack("rolled-back", 40);
    root.write("mended", "");
    expectEnd(await root.run(), "deployed", 0);
    rmSync(join(root.path, "mended"));
  });

  test("by hanging is ended and undone", async () => {
    root.publish(NEW, "trap '' TERM; sleep 300\n");
    root.set("SWITCH_TIMEOUT_SECS", "1");
    const run = await expectRolledBack("rolled-back", 40);
    expect(run.json.reason).toContain("took longer than 1 s");
  });

  test("by saying it is done when it is not is undone", async () => {
    root.publish(NEW, "exit 0\n");
    const run = await expectRolledBack("rolled-back", 40);
    expect(run.json.reason).toContain("said it was done");
  });

  test("by a unit that did not fail before is undone", async () => {
    root.write("failed-units", "always.service loaded failed failed Always\n");
    root.publish(NEW, 'echo "* web.service loaded failed failed Web" >> "$root/failed-units"\n');
    expect((await expectRolledBack("unhealthy", 41)).json.failed_units).toEqual(["web.service"]);
  });

  test("by a health command is undone", async () => {
    root.set(
      "HEALTH_COMMANDS",
      JSON.stringify(["true", `test "$(readlink ${root.path}/run/current-system)" = ${OLD}`]),
    );
    expect((await expectRolledBack("unhealthy", 41)).json.reason).toContain("ended with 1");
  });

  test("by breaking the network is undone, and told as soon as it can be", async () => {
    root.publish(NEW, 'touch "$root/network-down"\n');
    const run = await expectRolledBack("unhealthy", 41);
    expect(run.json.reason).toContain("cannot be reached");
    expect(run.json.unsent_reports).toBe(4);
    rmSync(join(root.path, "network-down"));
    expectEnd(await root.run("resume"), "resumed", 0);
    expect(root.steps()).toEqual(["started", "downloading", "activating", "checking", "failed", "rolled_back"]);
  });

  test("by killing the agent is undone by the next run", async () => {
    root.publish(NEW, 'kill -9 "$(cat "$root/agent")"; exit 3\n');
    const child = root.start();
    root.write("agent", `${child.pid}`);
    expect((await endOf(child)).code).toBe(null);
    expectEnd(await root.run("resume"), "rolled-back", 40);
    expect(root.links).toEqual(both(OLD));
  });

  test("together with the way back is said loudly, and tried again until it works", async () => {
    root.publish(NEW, 'touch "$root/broken"; exit 3\n');
    writeFileSync(`${root.path}${OLD}/behaviour`, '[ -e "$root/broken" ] && exit 5\n');
    expectEnd(await root.run(), "rollback-failed", 43);
    expect(root.reports.at(-1)).toMatchObject({ step: "failed", health: "unhealthy", exit_code: 43 });
    root.offer(NEW, 2, { state: "held", reason: "it failed here" });
    expectEnd(await root.run(), "rollback-failed", 43);
    rmSync(join(root.path, "broken"));
    expectEnd(await root.run(), "rolled-back", 40);
    expect(root.links).toEqual(both(OLD));
  });
});

describe("what cannot be fetched changes nothing", () => {
  const cases: readonly (readonly [string, number, () => void, string])[] = [
    [
      "missing-path",
      30,
      () => rmSync(join(root.path, "remote"), { recursive: true }),
      `${NEW} is in none of the caches: main (`,
    ],
    [
      "bad-signature",
      31,
      () => root.write("download.sh", failing(`warning: the substitute for '${NEW}' from 'http://x' ${UNSIGNED}`)),
      "is not signed by a trusted key of main",
    ],
    ["disk-full", 32, () => root.set("DISK_MARGIN_MB", "99000000"), "collect garbage"],
    [
      "disk-full",
      32,
      () => root.write("download.sh", failing("error: writing to file: No space left on device")),
      "No space left",
    ],
    [
      "download-failed",
      33,
      () => root.write("download.sh", failing("error: unable to download: HTTP error 500")),
      "HTTP error 500",
    ],
  ];
  const failing = (words: string) => `[ "$dry" ] || { echo "${words}" >&2; exit 1; }\n`;

  test.each(cases)("%s (%i)", async (end, code, arrange, words) => {
    arrange();
    const run = await root.run();
    expectEnd(run, end, code);
    expect(run.json.reason).toContain(words);
    expect(root.links).toEqual(both(OLD));
    expect(root.read("switches")).toBe("");
    expect(root.steps()).toEqual(["started", "downloading", "failed"]);
  });

  test("and a download that a signal ends is taken up by the next run", async () => {
    root.write(
      "download.sh",
      '[ "$dry" ] || { touch "$root/downloading"; while [ -e "$root/download.sh" ]; do sleep 0.1; done; }\n',
    );
    const child = root.start();
    await vi.waitFor(() => expect(existsSync(join(root.path, "downloading"))).toBe(true), 20_000);
    child.kill("SIGTERM");
    expectEnd(await endOf(child), "interrupted", 50);
    rmSync(join(root.path, "download.sh"));
    expectEnd(await root.run(), "deployed", 0);
  });
});

describe("the server and its key", () => {
  test.each([
    [401, "unauthorized", 21],
    [403, "unauthorized", 21],
    [404, "not-found", 22],
    [503, "unreachable", 20],
    [302, "bad-answer", 23],
  ])("an answer with status %i is the end %s", async (status, end, code) => {
    root.status = status;
    expectEnd(await root.run(), end, code);
  });

  test("a server that is away, and an answer that makes no sense", async () => {
    root.write("network-down", "");
    expectEnd(await root.run(), "unreachable", 20);
    rmSync(join(root.path, "network-down"));
    root.offer("/etc/passwd", 2);
    const run = await root.run();
    expectEnd(run, "bad-answer", 23);
    expect(run.json.reason).toContain('"/etc/passwd" is no path of a Nix store');
    root.offer(`${NEW}.drv`, 2);
    const derivation = await root.run();
    expectEnd(derivation, "bad-answer", 23);
    expect(derivation.json.reason).toContain("is a derivation and no system");
    expect(root.read("calls")).not.toContain("--realise");
  });

  test("a key that may not report is said once, and deployments go on", async () => {
    root.offer(NEW, 2, { can_report: false });
    const run = await root.run();
    expectEnd(run, "deployed", 0);
    expect(run.stderr).toContain("reportDeployments");
    expect((await root.run()).stderr).not.toContain("reportDeployments");
    expect(root.reports).toEqual([]);
  });

  test("a key file that others can read is warned about; one that is not there, or no key, is an end", async () => {
    chmodSync(join(root.path, "key"), 0o644);
    expect((await root.run()).stderr).toContain("(mode 644): chmod 600 it");
    chmodSync(join(root.path, "key"), 0o600);
    expectEnd(await root.run("--api-key-file", join(root.path, "nothing")), "key-file", 3);
    expectEnd(await root.run("--api-key-file", join(root.path, "bin/systemctl")), "key-file", 3);
  });

  test("requests go through the proxy that the environment names", async () => {
    root.environment.HTTP_PROXY = root.origin;
    root.set("ALLOW_HTTP", "true");
    const run = await root.run("--server", "http://gradient.example.invalid");
    // A request by proxy names the whole address, which this server knows nothing at.
    expectEnd(run, "not-found", 22);
    expect(run.json.reason).toContain("http://gradient.example.invalid/api/v1");
  });
});

describe("runs that meet", () => {
  test("the second ends at once; it may run when the first was killed", async () => {
    root.write(
      "download.sh",
      '[ "$dry" ] || { touch "$root/downloading2"; while [ -e "$root/download.sh" ]; do sleep 0.1; done; }\n',
    );
    const first = root.start();
    await vi.waitFor(() => expect(existsSync(join(root.path, "downloading2"))).toBe(true), 20_000);
    expectEnd(await root.run(), "locked", 15);
    expect((await root.run("status")).json).toMatchObject({ in_progress: { phase: "downloading", store_path: NEW } });
    first.kill("SIGKILL");
    await endOf(first);
    rmSync(join(root.path, "download.sh"));
    expectEnd(await root.run(), "deployed", 0);
  });
});

test("the operator can go back, and the build is refused from then on", async () => {
  expectEnd(await root.run("rollback"), "nothing-before", 46);
  await root.run();
  expectEnd(await root.run("rollback"), "rolled-back-by-hand", 0);
  expect(root.links).toEqual(both(OLD));
  expect(root.reports.at(-1)).toMatchObject({ step: "rolled_back", store_path: NEW, running_path: OLD });
  root.offer(NEW, 2, { state: "held", reason: "it failed here" });
  expectEnd(await root.run(), "bad-build", 13);
});

test("a state that cannot be understood is put aside and said", async () => {
  mkdirSync(join(root.path, "state"), { recursive: true });
  root.write("state/state.json", '{"version":1,"journal":7}');
  const run = await root.run();
  expectEnd(run, "deployed", 0);
  expect(run.stderr).toContain("state.json.damaged");
});

test("killed at each call of a tool, the agent leaves what the next run brings to its end", async () => {
  let deaths = 0;
  for (let moment = 1; ; moment++) {
    root.reset();
    root.publish(NEW, "exit 3\n");
    root.offer(NEW, 2);
    root.write("kill-at", `${moment}`);
    const run = await root.run();
    if (run.code !== null) break;
    deaths++;
    for (const path of Object.values(root.links)) expect([OLD, NEW]).toContain(path);
    root.write("kill-at", "0");
    const next = await root.run();
    expect(root.links, `moment ${moment}: ${next.stderr}`).toEqual(both(OLD));
    expect(JSON.parse(root.read("state/state.json"))).toMatchObject({ journal: null, reports: [] });
  }
  expect(deaths).toBeGreaterThan(8);
}, 300_000);
