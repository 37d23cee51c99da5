import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ENDS, type EndSpec } from "#deploy-agent/ends.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { canEvaluate, evaluateSystems } from "./support/evaluate.ts";
import { snippet, sound, unitOf, withModules } from "./support/systems.ts";

describe.skipIf(!canEvaluate())("gradient-update", () => {
  const { system } = evaluateSystems({ system: withModules(["deploy"], [`imports = [ ${snippet("deploy")} ];`]) });

  test("gradient-update runs the unit, tells what it said, and ends as it did", async () => {
    await using place = await withTemporaryFolder();
    const run = prepareUpdate(place.path, sound(system).commands["gradient-update"] ?? "");
    expect(run([])).toEqual({
      status: 0,
      stdout: "deployed\n",
      stderr: "",
      calls: [
        "systemctl reset-failed gradient-deploy.service",
        "systemctl start gradient-deploy.service",
        "journalctl --sync",
        "journalctl --quiet --no-pager --output cat _SYSTEMD_INVOCATION_ID=4711 + INVOCATION_ID=4711",
      ],
    });
    expect(run([], { startStatus: 1, mainStatus: 41 })).toMatchObject({ status: 41, stdout: "deployed\n" });
    // Not started at all, and ended by a signal whose number is that of another end.
    expect(run([], { startStatus: 1, mainCode: 0 })).toMatchObject({ status: 1 });
    expect(run([], { mainCode: 2, mainStatus: 15 })).toMatchObject({ status: 1 });
    expect(run(["--server"])).toMatchObject({ status: 2, calls: [] });
  });

  test("gradient-update says when nothing was deployed, though systemd calls that a success", async () => {
    await using place = await withTemporaryFolder();
    const run = prepareUpdate(place.path, sound(system).commands["gradient-update"] ?? "");
    for (const { expected, exitCode } of Object.values<EndSpec>(ENDS)) {
      if (!expected || exitCode === 0) continue;
      const { status, stderr } = run([], { mainStatus: exitCode });
      expect(status).toBe(exitCode);
      expect(stderr).toContain(exitCode === ENDS.locked.exitCode ? "another run is at work" : "nothing was deployed");
    }
  });

  test("a word for gradient-update is for one run, and nothing keeps it for the next one", async () => {
    await using place = await withTemporaryFolder();
    const run = prepareUpdate(place.path, sound(system).commands["gradient-update"] ?? "");
    const started = (words: readonly string[]) => run(words).calls.find((call) => call.startsWith("systemctl start"));
    expect(started(["--force"])).toBe("systemctl start gradient-deploy@--force.service");
    expect(started(["--allow-older"])).toBe("systemctl start gradient-deploy@--allow-older.service");
    // It takes also what is older.
    expect(started(["--force", "--allow-older"])).toBe("systemctl start gradient-deploy@--force.service");
    expect(started(["--allow-older", "--force"])).toBe("systemctl start gradient-deploy@--force.service");

    expect(unitOf(system, "gradient-deploy").serviceConfig.ExecStart).toMatch(/\/bin\/gradient-deploy run$/);
    expect(unitOf(system, "gradient-deploy").serviceConfig).not.toHaveProperty("EnvironmentFile");
    const forced = unitOf(system, "gradient-deploy@");
    expect(forced.serviceConfig.ExecStart).toMatch(/\/bin\/gradient-deploy run %i$/);
    expect(forced.environment).toEqual(unitOf(system, "gradient-deploy").environment);
    // systemd would forget how the instance ended.
    expect(forced.serviceConfig).not.toHaveProperty("SuccessExitStatus");
    expect(forced.serviceConfig).not.toHaveProperty("Restart");
  });

  test("gradient-update shows what an instance said that systemd has forgotten, and leaves none failed", async () => {
    await using place = await withTemporaryFolder();
    const run = prepareUpdate(place.path, sound(system).commands["gradient-update"] ?? "");
    const forgotten = run(["--force"], { mainCode: 0, invocation: "" });
    expect(forgotten).toMatchObject({ status: 0, stdout: "deployed\n" });
    expect(forgotten.calls.at(-2)).toMatch(/^journalctl .* --unit gradient-deploy@--force\.service --since @\d+$/);
    expect(run(["--force"], { startStatus: 1, mainStatus: 10 })).toMatchObject({ status: 10 });
    expect(forgotten.calls.at(-1)).toBe("systemctl reset-failed gradient-deploy@--force.service");
  });

  test("gradient-update waits for a run that is at work, and not for a retry", async () => {
    await using place = await withTemporaryFolder();
    const run = prepareUpdate(place.path, sound(system).commands["gradient-update"] ?? "");
    const waited = run([], { active: "activating", sub: "start" });
    expect(waited).toMatchObject({ status: 0, stdout: "deployed\n" });
    expect(waited.stderr).toContain("a run is at work already");
    const retrying = run([], { active: "activating", sub: "auto-restart" });
    expect(retrying.calls.filter((call) => /systemctl (stop|start)/.test(call))).toEqual([
      "systemctl stop gradient-deploy.service",
      "systemctl start gradient-deploy.service",
    ]);
  });
});

/** What systemd says of the unit. */
interface UpdateSituation {
  readonly startStatus?: number;
  readonly active?: string;
  readonly sub?: string;
  /** 1: the run ended with `mainStatus`; 2: that signal ended it; 0: nothing is known of it. */
  readonly mainCode?: number;
  readonly mainStatus?: number;
  readonly invocation?: string;
}

/** The script with a systemctl and a journalctl that write down how they are called. */
function prepareUpdate(folder: string, script: string) {
  const log = join(folder, "calls");
  const programs = join(folder, "bin");
  mkdirSync(programs);
  const write = (name: string, text: string) => {
    writeFileSync(join(programs, name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(programs, name), 0o755);
  };
  write(
    "systemctl",
    `case $1 in
       show) eval "echo \\"\\$$3\\""; exit ;;
     esac
     echo "systemctl $*" >> ${log}
     case $1 in start) exit "$START_STATUS" ;; esac`,
  );
  write("journalctl", `echo "journalctl $*" >> ${log}; case $1 in --sync) ;; *) echo deployed ;; esac`);
  return (args: readonly string[], situation: UpdateSituation = {}) => {
    const { startStatus = 0, active = "inactive", sub = "dead", mainCode = 1, mainStatus = 0 } = situation;
    writeFileSync(log, "");
    const { status, stdout, stderr } = spawnSync("/bin/sh", ["-c", script, "gradient-update", ...args], {
      encoding: "utf8",
      env: {
        PATH: `${programs}:${process.env.PATH}`,
        START_STATUS: String(startStatus),
        ActiveState: active,
        SubState: sub,
        ExecMainCode: String(mainCode),
        ExecMainStatus: String(mainStatus),
        InvocationID: situation.invocation ?? "4711",
      },
    });
    return { status, stdout, stderr, calls: readFileSync(log, "utf8").split("\n").filter(Boolean) };
  };
}
