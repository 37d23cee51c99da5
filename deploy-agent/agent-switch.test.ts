import { existsSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type AgentRun, both, endOf, NEW, NEWER, OLD, withDeployRoot } from "#test/support/deploy-root.ts";

const root = await withDeployRoot();
beforeEach(() => root.reset());
afterAll(() => root[Symbol.asyncDispose]());

function expectEnd(run: AgentRun, end: string, code: number): void {
  expect({ ...run.json, code: run.code }, run.stderr).toMatchObject({ end, exit_code: code, code });
}

describe("a busy host", () => {
  test("has everything fetched, and is not switched before it is free", async () => {
    root.set("BUSY_COMMAND", `test -e ${join(root.path, "busy")}`);
    root.set("WAIT_SECS", "0");
    root.write("busy", "");
    expectEnd(await root.run(), "busy", 16);
    expect(existsSync(`${root.path}${NEW}`)).toBe(true);
    expect(root.links).toEqual(both(OLD));
    rmSync(join(root.path, "busy"));
    expectEnd(await root.run(), "deployed", 0);
  });

  test("is one that somebody keeps from shutting down, if that is asked for", async () => {
    root.set("WAIT_FOR_INHIBITORS", "true");
    root.set("WAIT_SECS", "0");
    root.write("inhibitors", "Backup Tool 0 root 1 backup shutdown:sleep half way through block\n");
    const run = await root.run();
    expectEnd(run, "busy", 16);
    expect(run.json.reason).toContain("Backup Tool (half way through)");
  });
});

describe("a reboot", () => {
  const minutes = (from: number): string => {
    const now = new Date();
    const at = (offset: number) => {
      const minute = (now.getHours() * 60 + now.getMinutes() + offset + 2_880) % 1_440;
      return `${String(Math.floor(minute / 60)).padStart(2, "0")}:${String(minute % 60).padStart(2, "0")}`;
    };
    return `${at(from)}-${at(from + 120)}`;
  };

  test("happens for another kernel, inside the window alone, and what it leads to is checked", async () => {
    root.set("REBOOT", "when-needed");
    root.set("REBOOT_WINDOW", minutes(180));
    root.publish(NEW, "", "linux-2");
    const run = await root.run();
    expectEnd(run, "deployed", 0);
    expect(run.json.reboot_needed).toBe(true);
    expect(existsSync(join(root.path, "rebooted"))).toBe(false);

    root.set("REBOOT_WINDOW", minutes(-60));
    expectEnd(await root.run(), "rebooting", 0);
    expect(existsSync(join(root.path, "rebooted"))).toBe(true);
    root.boot();
    root.reports.length = 0;
    expectEnd(await root.run(), "deployed", 0);
    expect(root.steps()).toEqual(["checking", "succeeded", "unchanged"]);
    expect((await root.run("status")).json).toMatchObject({ next_boot_path: null, running_path: NEW });
  });

  test("is put off by an inhibitor", async () => {
    root.set("REBOOT", "when-needed");
    root.set("MODE", "boot");
    root.write("inhibitors", "Backup 0 root 1 backup shutdown half way block\n");
    expectEnd(await root.run(), "will-boot", 0);
    expect(existsSync(join(root.path, "rebooted"))).toBe(false);
  });

  test("into a system that is ill leads back to the one before", async () => {
    root.set("MODE", "boot");
    expectEnd(await root.run(), "will-boot", 0);
    root.boot();
    root.write("failed-units", "web.service loaded failed failed Web\n");
    writeFileSync(`${root.path}${OLD}/behaviour`, ': > "$root/failed-units"\n');
    expectEnd(await root.run("resume"), "unhealthy", 41);
    expect(root.links).toEqual(both(OLD));
  });

  test("into what somebody else has set up since says nothing of the build before", async () => {
    root.set("MODE", "boot");
    await root.run();
    rmSync(join(root.path, "nix/profiles/system"));
    symlinkSync("system-1-link", join(root.path, "nix/profiles/system"));
    root.write("boot-id", "second");
    expectEnd(await root.run("resume"), "resumed", 0);
    expect(JSON.parse(root.read("state/state.json"))).toMatchObject({ bad: [], pendingBoot: null });
  });

  test("that ends in another system is said, and not tried again", async () => {
    root.set("MODE", "boot");
    await root.run();
    rmSync(join(root.path, "boot-entry"));
    writeFileSync(join(root.path, "x"), "");
    root.write("boot-id", "second");
    expectEnd(await root.run("resume"), "booted-other", 48);
    root.offer(NEW, 2, { state: "held", reason: "it failed here" });
    expectEnd(await root.run(), "bad-build", 13);
  });
});

describe("where systemd runs the host", () => {
  test("the switch is a unit of its own, which outlives the agent", async () => {
    root.set("SYSTEMD", "true");
    root.publish(NEW, 'kill -9 "$(cat "$root/agent")"; sleep 1\n');
    const child = root.start();
    root.write("agent", `${child.pid}`);
    expect((await endOf(child)).code).toBe(null);
    const call = root
      .read("calls")
      .split("\n")
      .find((line) => line.startsWith("systemd-run"));
    expect(call).toMatch(/--unit=gradient-deploy-switch-[0-9a-f-]{36}\.service .*--property=RuntimeMaxSec=1800/);
    await vi.waitFor(() => expect(root.links.running).toBe(NEW), 20_000);
    expectEnd(await root.run("resume"), "deployed", 0);
    expect(root.read("switches").trim()).toBe(`switch ${NEW}`);
  });

  test("units that fail in the switch count when they did not fail before", async () => {
    root.set("SYSTEMD", "true");
    root.publish(NEW, 'ln -sfn "$path" "$root/run/current-system"; exit 4\n');
    root.write("failed-units", "always.service loaded failed failed Always\n");
    expectEnd(await root.run(), "deployed", 0);
  });

  test("a switch that somebody else is doing is waited for", async () => {
    root.publish(NEW, 'if mkdir "$root/nix/locked" 2>/dev/null; then echo Could not acquire lock >&2; exit 1; fi\n');
    expectEnd(await root.run(), "deployed", 0);
    expect(root.read("switches").trim().split("\n")).toEqual([`switch ${NEW}`, `switch ${NEW}`]);
  });

  test("a system that NixOS would not switch to now is set up for the next boot", async () => {
    writeFileSync(`${root.path}${OLD}/switch-inhibitors`, '{"dbus":"a","systemd":"1"}');
    writeFileSync(join(root.path, "remote", NEW.slice(11), "switch-inhibitors"), '{"dbus":"b","other":"2"}');
    expectEnd(await root.run(), "will-boot", 0);
    expect(root.read("switches").trim()).toBe(`boot ${NEW}`);
    expect(root.links).toEqual({ profile: NEW, running: OLD });
    root.boot();
    expectEnd(await root.run(), "deployed", 0);
  });

  test("a way back is not kept from its end by what keeps people from a risky switch", async () => {
    root.publish(NEW, "exit 3\n");
    writeFileSync(`${root.path}${OLD}/behaviour`, '[ "$NIXOS_NO_CHECK" = 1 ] || exit 1\n');
    expectEnd(await root.run(), "rolled-back", 40);
    expect(root.links).toEqual(both(OLD));
  });

  test("a system that needs a boot first waits for it", async () => {
    root.publish(NEW, "exit 100\n");
    expectEnd(await root.run(), "will-boot", 0);
    expectEnd(await root.run(), "will-boot", 0);
    root.boot();
    expectEnd(await root.run(), "deployed", 0);
  });
});

describe("watching", () => {
  test("acts on a new build at once, and leaves the rest to the agent that is there then", async () => {
    await root.run();
    const child = root.start("watch");
    const ended = endOf(child);
    await vi.waitFor(() => expect(root.steps().at(-1)).toBe("unchanged"), 20_000);
    root.publish(NEWER);
    root.offer(NEWER, 3);
    expectEnd(await ended, "deployed", 0);
    expect(root.links).toEqual(both(NEWER));
  });

  test("ends with a signal", async () => {
    root.write("network-down", "");
    const child = root.start("watch");
    const ended = endOf(child);
    await new Promise<void>((resolve) => child.stderr?.once("data", () => resolve()));
    child.kill("SIGTERM");
    expectEnd(await ended, "interrupted", 50);
  });
});
