import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { both, endOf, NEW, OLD, withDeployRoot } from "#test/support/deploy-root.ts";
import { TOOLS } from "#test/support/deploy-tools.ts";

const root = await withDeployRoot();
beforeEach(() => root.reset());
afterAll(() => root[Symbol.asyncDispose]());

/** A tool that does first what the test wants. */
const tool = (name: "systemctl" | "systemd-run", before: string) =>
  root.tool(
    name,
    `${before}
${TOOLS[name]}`,
  );
const ONCE = '[ ! -e "$root/asked" ] && : > "$root/asked"';

describe("a switch of which systemd cannot say whether it runs", () => {
  beforeEach(() => {
    root.set("SYSTEMD", "true");
    tool("systemd-run", "");
  });

  test("is waited for, told while it is under way, and not undone beside itself", async () => {
    tool("systemctl", `if [ "$1" = show ] && ${ONCE}; then echo "Transport endpoint is not connected" >&2; exit 1; fi`);
    root.publish(NEW, 'while [ ! -e "$root/go" ]; do sleep 0.1; done\n');
    const ended = root.run();
    await vi.waitFor(() => expect(existsSync(join(root.path, "asked"))).toBe(true), 20_000);
    await vi.waitFor(() => expect(root.steps()).toEqual(["started", "downloading", "activating"]), 20_000);
    root.write("go", "");
    expect((await ended).json.end).toBe("deployed");
    expect(root.switches()).toEqual([`switch ${NEW}`]);
    expect(root.links).toEqual(both(NEW));
  });

  test("is not started a second time by the next run", async () => {
    root.publish(NEW, "sleep 2\n");
    const child = root.start();
    await vi.waitFor(() => expect(root.switches()).toEqual([`switch ${NEW}`]), 20_000);
    child.kill("SIGKILL");
    await endOf(child);
    tool("systemctl", `if [ "$1" = show ] && ${ONCE}; then exit 1; fi`);
    expect((await root.run()).json.end).toBe("deployed");
    expect(root.switches()).toEqual([`switch ${NEW}`]);
  });

  test("though it could not be started, so it seemed, is taken as it ends", async () => {
    tool("systemctl", "");
    root.publish(NEW, "sleep 0.3\n");
    writeFileSync(
      join(root.path, "bin/systemd-run"),
      `#!/bin/sh\nroot='${root.path}'\n${TOOLS["systemd-run"]?.replace(/exit 0\n$/, "exit 1\n")}`,
    );
    expect((await root.run()).json.end).toBe("deployed");
    expect(root.switches()).toEqual([`switch ${NEW}`]);
  });
});

describe("what never began to switch says nothing of the build", () => {
  test.each(["switch", "dry-activate"])("where systemd starts nothing and answers nothing (%s)", async (mode) => {
    root.set("MODE", mode);
    root.set("SYSTEMD", "true");
    root.set("SWITCH_TIMEOUT_SECS", "1");
    const unless = (name: string) => `if [ "$1" ${name} ]; then echo "Failed to connect to bus" >&2; exit 1; fi`;
    tool("systemctl", unless("!= list-units"));
    tool("systemd-run", unless("!= never"));
    const run = await root.run();
    expect(run.json).toMatchObject({ end: "busy" });
    expect(run.json.reason).toContain("could not be started: Failed to connect to bus");
    expect(root.links).toEqual(both(OLD));
    expect(root.state()).toMatchObject({ bad: [], journal: null });
  });

  test("a unit that cannot be started once is started again", async () => {
    root.set("SYSTEMD", "true");
    tool("systemctl", "");
    tool("systemd-run", `if ${ONCE}; then echo "Transaction is destructive." >&2; exit 1; fi`);
    expect((await root.run()).json.end).toBe("deployed");
    expect(root.switches()).toEqual([`switch ${NEW}`]);
  });

  test("a lock that others hold for too long", async () => {
    root.set("SWITCH_TIMEOUT_SECS", "4");
    root.publish(NEW, 'if [ -e "$root/busy" ]; then echo "Could not acquire lock" >&2; exit 11; fi\n');
    root.write("busy", "");
    const run = await root.run();
    expect(run.json).toMatchObject({ end: "busy", exit_code: 16 });
    expect(run.json.reason).toContain("somebody else is switching: Could not acquire lock");
    expect(root.links).toEqual(both(OLD));
    expect(root.link("nix/profiles/system")).toBe("system-1-link");
    expect(root.switches()).not.toContain(`switch ${OLD}`);
    expect(root.state()).toMatchObject({ bad: [], journal: null, pendingBoot: null });
    expect(root.steps()).toEqual(["started", "downloading", "failed"]);
    rmSync(join(root.path, "busy"));
    expect((await root.run()).code).toBe(0);
  });
});
