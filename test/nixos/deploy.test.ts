import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { isHostName } from "#core/domain/deployment.ts";
import { ENDS } from "#deploy-agent/ends.ts";
import { type DeploySettings, readSettings } from "#deploy-agent/read-settings.ts";
import { SETTINGS, type SettingSpec } from "#deploy-agent/settings.ts";
import { parseHost } from "#deploy-agent/settings-values.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { canEvaluate, evaluateSystems } from "./support/evaluate.ts";
import { credentialsOf, snippet, sound, startedEnvironment, unitOf } from "./support/systems.ts";

const FLAKE_MODULE = "inputs.gradient.nixosModules.deploy";
const DOCUMENTED = snippet("deploy");
const withDeploy = (...texts: readonly string[]) =>
  `({ inputs, lib, ... }: { imports = [ ${FLAKE_MODULE} ${texts.join(" ")} ]; })`;
const withOptions = (text: string) =>
  withDeploy(DOCUMENTED, `({ lib, ... }: { system.gradient-deploy = { ${text} }; })`);

/** What is set, and what comes of it in the agent. */
const OPTIONS: readonly (readonly [string, (settings: DeploySettings) => unknown, unknown])[] = [
  [`server = lib.mkForce "https://ci.example.org/gradient";`, (s) => s.server, "https://ci.example.org/gradient"],
  [`project = lib.mkForce "acme/fleet";`, (s) => s.project, { organization: "acme", name: "fleet" }],
  [`deployFor = "other";`, (s) => s.host, "other"],
  [`mode = "boot";`, (s) => s.mode, "boot"],
  [`mode = "dry-activate";`, (s) => s.mode, "dry-activate"],
  ["rollback.enable = false;", (s) => s.rollback, false],
  ["switchTimeoutSec = 60;", (s) => s.switchTimeoutSeconds, 60],
  ["downloadTimeoutSec = 86400;", (s) => s.downloadTimeoutSeconds, 86_400],
  ["serverTimeoutSec = 600;", (s) => s.serverTimeoutSeconds, 600],
  ["useHostSubstituters = false;", (s) => s.hostSubstituters, false],
  ["diskMarginMb = 0;", (s) => s.diskMarginBytes, 0],
  ["diskMarginMb = 2000;", (s) => s.diskMarginBytes, 2_000_000_000],
  ["health.units = false;", (s) => s.healthUnits, false],
  [
    `health.ignoredUnits = [ "backup-*.service" "a@b.service" ];`,
    (s) => s.healthIgnoredUnits,
    ["backup-*.service", "a@b.service"],
  ],
  ["health.server = false;", (s) => s.healthServer, false],
  [
    `health.commands = [ "curl -w '100%' http://localhost" ''test "$HOME" = "a b"'' ];`,
    (s) => s.healthCommands,
    ["curl -w '100%' http://localhost", 'test "$HOME" = "a b"'],
  ],
  ["health.commandTimeoutSec = 5;", (s) => s.healthCommandTimeoutSeconds, 5],
  ["health.settleSec = 0;", (s) => s.healthSettleSeconds, 0],
  ["health.graceSec = 600;", (s) => s.healthGraceSeconds, 600],
  [`busyCommand = "pgrep --exact restic";`, (s) => s.busyCommand, "pgrep --exact restic"],
  ["waitForInhibitors = true;", (s) => s.waitForInhibitors, true],
  ["waitSec = 0;", (s) => s.waitSeconds, 0],
  [`reboot.policy = "when-needed";`, (s) => s.reboot, "when-needed"],
  [
    `reboot = { policy = "when-needed"; window = "23:30-05:00"; };`,
    (s) => s.rebootWindow,
    { fromMinute: 23 * 60 + 30, toMinute: 300 },
  ],
  ["report = false;", (s) => s.report, false],
  ["watch.waitSec = 20;", (s) => s.watchWaitSeconds, 20],
  [`caFile = "/etc/ssl/ca.pem";`, (s) => s.caFile, "/etc/ssl/ca.pem"],
  [`netrcFile = "/etc/our-netrc";`, (s) => s.netrcFile, "/etc/our-netrc"],
  ["netrcFile = null;", (s) => s.netrcFile, null],
];

const REFUSED: readonly (readonly [words: string, text: string])[] = [
  ["system.gradient-deploy.server is required.", "server = lib.mkForce null;"],
  ["system.gradient-deploy.project is required.", "project = lib.mkForce null;"],
  ["system.gradient-deploy.apiKeyFile is required.", "apiKeyFile = lib.mkForce null;"],
  [
    "system.gradient-deploy.health.settleSec must not exceed system.gradient-deploy.health.graceSec.",
    "health.settleSec = 61;",
  ],
  [
    "system.gradient-deploy.reboot.window begins when it ends.",
    'reboot = { policy = "when-needed"; window = "02:00-02:00"; };',
  ],
  [
    "system.gradient-deploy.health.commands takes at most 20 commands.",
    'health.commands = builtins.genList (_: "true") 21;',
  ],
];

/** What is of no right type: the evaluation ends there. */
const NO_VALUES = [
  `project = lib.mkForce "x";`,
  `server = lib.mkForce "gradient.example.com";`,
  `server = lib.mkForce "https://user@gradient.example.com";`,
  `mode = "reboot";`,
  `deployFor = "two words";`,
  `deployFor = "it's";`,
  `reboot.window = "2-5";`,
  "serverTimeoutSec = 0;",
  `apiKeyFile = lib.mkForce "/nix/store/00000000000000000000000000000000-key";`,
];

/** Whether each is the name of a host. */
const HOST_NAMES: readonly (readonly [name: string, isOne: boolean])[] = [
  ["a", true],
  ["web-1.example_2+3@x", true],
  ["_x", true],
  ["a".repeat(253), true],
  ["a".repeat(254), false],
  ["it's", false],
  ["-x", false],
  [".x", false],
  ["", false],
];

const WARNED: readonly (readonly [words: string, text: string])[] = [
  [
    'system.gradient-deploy.reboot.window has no effect while system.gradient-deploy.reboot.policy is "never".',
    'reboot.window = "02:00-05:00";',
  ],
  [
    "system.gradient-deploy.server is asked by http: the API key crosses the network unprotected.",
    'server = lib.mkForce "http://gradient.example.com";',
  ],
  [
    "system.gradient-deploy.server is asked by http: the API key crosses the network unprotected.",
    'server = lib.mkForce "http://localhost.evil.example";',
  ],
];

const folder = await withTemporaryFolder();
afterAll(async () => await folder[Symbol.asyncDispose]());
const FLAKE = join(folder.path, "flake");
mkdirSync(FLAKE);
writeFileSync(join(FLAKE, "flake.nix"), snippet("deploy-flake"));
writeFileSync(join(FLAKE, "configuration.nix"), DOCUMENTED);

const systems = {
  flake: `({ inputs, ... }: {
    imports = ((import ${FLAKE}/flake.nix).outputs {
      self = { };
      nixpkgs.lib.nixosSystem = given: given;
      inherit (inputs) gradient;
    }).nixosConfigurations.mymachine.modules;
  })`,
  plain: withDeploy(DOCUMENTED),
  timed: withDeploy(DOCUMENTED, snippet("deploy-timer")),
  dated: withOptions(`dates = "weekly"; randomizedDelaySec = "45min";`),
  behindProxy: withDeploy(
    DOCUMENTED,
    `{ networking.proxy.envVars.https_proxy = "http://me:a%20b@proxy.example.com:3128"; }`,
    `{ networking.hostName = "web1"; }`,
  ),
  watching: withOptions("watch.enable = true;"),
  off: withDeploy(),
  everything: `({ inputs, ... }: {
    imports = with inputs.gradient.nixosModules; [ default gradient-worker deploy ${DOCUMENTED} ];
  })`,
  ...Object.fromEntries(
    [
      ...OPTIONS.map(([text]) => text),
      ...REFUSED.map(([, text]) => text),
      ...NO_VALUES,
      ...HOST_NAMES.map(([name]) => `deployFor = "${name}";`),
      ...WARNED.map(([, text]) => text),
    ].map((text) => [text, withOptions(text)]),
  ),
};

describe.skipIf(!canEvaluate())("system.gradient-deploy", () => {
  const evaluated = evaluateSystems<string>(systems);
  const system = (name: string) => evaluated[name] ?? null;
  const unit = (name: string, unitName = "gradient-deploy") => unitOf(system(name), unitName);
  const timer = (name: string) => sound(system(name)).timers["gradient-deploy"]?.timerConfig;
  const environment = (name: string) => startedEnvironment(unit(name), join(folder.path, "credentials"));
  const started = (name: string) => readSettings(environment(name), { machineName: "machine" });

  test("the documentation's configuration is whole: the agent takes it, and asks at four in the morning", () => {
    expect(timer("plain")).toEqual({ OnCalendar: "04:00", RandomizedDelaySec: "0", Persistent: true });
    const { settings, warnings } = started("plain");
    expect(warnings).toEqual([]);
    expect(settings).toMatchObject({
      server: "https://gradient.example.com",
      project: { organization: "myorg", name: "myproject" },
      host: "host",
      apiKeyFile: join(folder.path, "credentials", "api-key"),
    });
    expect(credentialsOf(unit("plain"))).toEqual({ "api-key": "/var/lib/gradient-deploy/api-key" });
    expect(sound(system("plain")).warnings).toEqual([]);
    expect(Object.keys(sound(system("plain")).services)).toEqual(["gradient-deploy", "gradient-deploy-resume"]);
  });

  test("the documentation's flake makes the same of it", () => {
    expect(snippet("deploy-flake")).toContain('inputs.gradient.url = "github:');
    expect(system("flake")).toEqual(system("plain"));
  });

  test("the key's folder is root's alone before anything has run", () => {
    expect(sound(system("plain")).tmpfiles).toEqual(["d /var/lib/gradient-deploy 0700 root root -"]);
    expect(unit("plain").serviceConfig).toMatchObject({
      StateDirectory: "gradient-deploy",
      StateDirectoryMode: "0700",
      UMask: "0077",
    });
  });

  test("what is not set is what the agent takes by itself", () => {
    const { settings } = started("plain");
    const given = ["SERVER", "PROJECT", "HOST", "API_KEY_FILE"].map((name) => `GRADIENT_DEPLOY_${name}`);
    const needed = [...given, "NIX_SSL_CERT_FILE"];
    const own = Object.fromEntries(Object.entries(environment("plain")).filter(([name]) => needed.includes(name)));
    expect(readSettings(own, { machineName: "machine" }).settings).toEqual(settings);
  });

  test.each(OPTIONS.map(([text, look, expected]) => ({ text, look, expected })))(
    "$text takes effect in the agent",
    ({ text, look, expected }) => {
      const { settings, warnings } = started(text);
      expect(look(settings)).toEqual(expected);
      expect(warnings).toEqual([]);
    },
  );

  test("each setting of the agent that names an option has it, and a row in this test", () => {
    const named = Object.values<SettingSpec>(SETTINGS).flatMap(({ option }) => (option === null ? [] : [option]));
    const { deployDefaults } = sound(system("plain"));
    expect(named.filter((option) => !(option in deployDefaults))).toEqual([]);
    const rows = OPTIONS.map(([text]) => text.replace(/reboot = \{.*window/, "reboot.window"));
    const tried = (option: string) => rows.some((row) => row.startsWith(`${option} =`));
    expect(named.filter((option) => option !== "apiKeyFile" && !tried(option))).toEqual([]);
  });

  test("numbers reach from the agent's least to its most", () => {
    const text = readFileSync(join(import.meta.dirname, "../../nixos/modules/deploy/settings.nix"), "utf8");
    const ranges = text
      .replaceAll("(365 * day)", "31536000")
      .replaceAll(/\bday\b/g, "86400")
      .matchAll(/number "DEPLOY_(\w+)" (\d+) (\d+) (\d+)/g);
    const written = Object.fromEntries([...ranges].map(([, name, ...numbers]) => [name, numbers.map(Number)]));
    const wanted = Object.entries<SettingSpec>(SETTINGS).flatMap(([name, { range, fallback }]) =>
      range ? [[name, [Number(fallback), range.min, range.max]]] : [],
    );
    expect(written).toEqual(Object.fromEntries(wanted));
  });

  test("another time takes the place of four o'clock", () => {
    expect(timer("timed")).toEqual({ OnCalendar: "*-*-* 02:00:00", RandomizedDelaySec: "0", Persistent: true });
    expect(timer("dated")).toMatchObject({ OnCalendar: "weekly", RandomizedDelaySec: "45min" });
  });

  test("a switch neither restarts nor stops the units that make it", () => {
    const units = Object.values(sound(system("watching")).services);
    expect(units.length).toBe(3);
    for (const { restartIfChanged, unitConfig } of units) {
      expect(restartIfChanged).toBe(false);
      expect(unitConfig["X-StopOnRemoval"]).toBe(false);
    }
  });

  test("the host's name and its proxy reach the agent", () => {
    expect(started("behindProxy").settings.host).toBe("web1");
    expect(environment("behindProxy").https_proxy).toBe("http://me:a%20b@proxy.example.com:3128");
  });

  test("what neither host nor agent is to blame for fails no unit", () => {
    const expected = Object.values(ENDS)
      .filter((end) => end.expected && end.exitCode !== 0)
      .map((end) => String(end.exitCode));
    expect(String(unit("plain").serviceConfig.SuccessExitStatus).split(" ")).toEqual(expected);
  });

  test("what may be better in a while is tried again, and a build that failed is not", () => {
    const { serviceConfig } = unit("plain");
    const passing = ["state", "unreachable", "bad-answer", "download-failed", "interrupted"];
    const final = Object.entries(ENDS).filter(([name, end]) => !end.expected && !passing.includes(name));
    expect(String(serviceConfig.RestartPreventExitStatus)).toBe(final.map(([, end]) => end.exitCode).join(" "));
    expect(serviceConfig).toMatchObject({ Type: "oneshot", Restart: "on-failure" });
    expect(serviceConfig).toMatchObject({ RestartSec: 300, RestartSteps: 5, RestartMaxDelaySec: 3600 });
  });

  test("a timer of every few minutes is not ended by the count of its own runs", () => {
    for (const name of ["gradient-deploy", "gradient-deploy-watch"]) {
      expect(unit("watching", name)).toMatchObject({ startLimitIntervalSec: 0 });
    }
  });

  test.each(HOST_NAMES)("the option, the agent and the server agree on the name of a host: %s", (name, isOne) => {
    expect(system(`deployFor = "${name}";`) !== null).toBe(isOne);
    expect(parseHost(name).ok).toBe(isOne);
    expect(isHostName(name)).toBe(isOne);
  });

  test("what a reboot or a loss of power has left is looked at a minute after the boot, once there is a key", () => {
    const { serviceConfig, unitConfig, wantedBy } = unit("plain", "gradient-deploy-resume");
    expect(serviceConfig.ExecStart).toMatch(/\/bin\/gradient-deploy resume$/);
    expect(unitConfig.ConditionPathExists).toBe("/var/lib/gradient-deploy/api-key");
    // A switch must not start it: it would wait for the very run that switches.
    expect(wantedBy).toEqual([]);
    expect(sound(system("plain")).timers["gradient-deploy-resume"]?.timerConfig).toEqual({ OnBootSec: "1min" });
  });

  test("watch.enable keeps an agent at the server, with the same settings", () => {
    const watching = unit("watching", "gradient-deploy-watch");
    expect(watching.serviceConfig.ExecStart).toMatch(/\/bin\/gradient-deploy watch$/);
    expect(watching.serviceConfig.Restart).toBe("always");
    expect(watching.wantedBy).toEqual(["multi-user.target"]);
    const { GRADIENT_UPDATE_ARGUMENTS: _, ...settings } = unit("watching").environment;
    expect(watching.environment).toEqual(settings);
    expect(sound(system("plain")).services).not.toHaveProperty("gradient-deploy-watch");
  });

  test("without enable nothing is set up, and the three modules go together", () => {
    expect(sound(system("off")).services).toEqual({});
    expect(sound(system("off")).timers).toEqual({});
    expect(sound(system("off")).commands).toEqual({});
    expect(sound(system("everything")).services).toHaveProperty("gradient-deploy");
  });

  test.each(REFUSED)("what contradicts itself is refused: %s", (words, text) => {
    expect(system(text)?.failed).toEqual([words]);
  });

  test.each(NO_VALUES)("%s is refused", (text) => {
    expect(system(text)).toBeNull();
  });

  test.each(WARNED)("what is hardly meant is told: %s", (words, text) => {
    expect(sound(system(text)).warnings.map((warning) => warning.trim())).toEqual([words]);
  });

  test("every option says its type, what it is for, and an example", () => {
    expect(sound(system("plain")).undocumented).toEqual([]);
  });

  test("gradient-update runs the unit, tells what it said, and ends as it did", async () => {
    await using place = await withTemporaryFolder();
    const run = prepareUpdate(place.path, sound(system("plain")).commands["gradient-update"] ?? "");

    const started = (words: readonly string[], more?: UpdateSituation) =>
      run(words, more).calls.find((call) => call.startsWith("systemctl start"));
    const plain = run([]);
    expect(plain).toMatchObject({ status: 0, stdout: "deployed\n" });
    expect(plain.calls.filter((call) => !/--value gradient-deploy|ActiveState|SubState/.test(call))).toEqual([
      "systemctl reset-failed gradient-deploy.service",
      "systemctl start gradient-deploy.service, with ",
      "journalctl --quiet --no-pager --output cat _SYSTEMD_INVOCATION_ID=4711 + INVOCATION_ID=4711",
    ]);

    // For this run alone.
    expect(started(["--allow-older", "--force"])).toBe(
      "systemctl start gradient-deploy.service, with GRADIENT_UPDATE_ARGUMENTS=--allow-older --force",
    );
    expect(started([])).toBe("systemctl start gradient-deploy.service, with ");

    expect(run([], { startStatus: "1" })).toMatchObject({ status: 1, stdout: "deployed\n" });
    expect(run(["--server"])).toMatchObject({ status: 2, calls: [] });
  });

  test("gradient-update says when it comes too late to force anything, and does not wait for a retry", async () => {
    await using place = await withTemporaryFolder();
    const run = prepareUpdate(place.path, sound(system("plain")).commands["gradient-update"] ?? "");
    const atWork = { active: "activating", sub: "start" };
    const refused = run(["--force"], atWork);
    expect(refused.status).toBe(15);
    expect(refused.stderr).toContain("is at work, which --force cannot change");
    expect(refused.calls.filter((call) => !call.startsWith("systemctl show"))).toEqual([]);
    expect(existsSync(join(place.path, "gradient-update.env"))).toBe(false);

    expect(run([], atWork)).toMatchObject({ status: 0, stdout: "deployed\n" });

    const retrying = run(["--force"], { active: "activating", sub: "auto-restart" });
    expect(retrying).toMatchObject({ status: 0, stdout: "deployed\n" });
    const calls = retrying.calls.filter((call) => /systemctl (stop|start)/.test(call));
    expect(calls).toEqual([
      "systemctl stop gradient-deploy.service",
      "systemctl start gradient-deploy.service, with GRADIENT_UPDATE_ARGUMENTS=--force",
    ]);
  });

  test("what a gradient-update that was killed has left is for one run only", () => {
    const { EnvironmentFile, ExecStopPost } = unit("plain").serviceConfig;
    expect(EnvironmentFile).toBe("-/run/gradient-update.env");
    expect(ExecStopPost).toMatch(/\/bin\/rm -f \/run\/gradient-update\.env$/);
  });

  test("gradient-deploy of the command line has the settings of the unit, and the file of the key itself", async () => {
    const text = `health.commands = [ "curl -w '100%' http://localhost" ''test "$HOME" = "a b"'' ];`;
    const script = sound(system(text)).commands["gradient-deploy"] ?? "";
    const shown = script.replace(/exec \S+/, "env -0 #");
    const { stdout } = spawnSync("/bin/sh", ["-c", shown], { encoding: "utf8", env: { PATH: process.env.PATH } });
    const seen = Object.fromEntries(stdout.split("\0").map((line) => line.split(/=(.*)/s).slice(0, 2)));
    const { settings } = readSettings(seen, { machineName: "machine" });
    expect(settings).toEqual({ ...started(text).settings, apiKeyFile: "/var/lib/gradient-deploy/api-key" });
    expect(script).toContain('/bin/gradient-deploy "$@"');
  });
});

interface UpdateSituation {
  readonly startStatus?: string;
  /** Of the unit. */
  readonly active?: string;
  readonly sub?: string;
}

/** The script with a systemctl and a journalctl that write down how they are called, and a run folder of its own. */
function prepareUpdate(folder: string, script: string) {
  const log = join(folder, "calls");
  const file = join(folder, "gradient-update.env");
  const programs = join(folder, "bin");
  mkdirSync(programs);
  const write = (name: string, text: string) => {
    writeFileSync(join(programs, name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(programs, name), 0o755);
  };
  write(
    "systemctl",
    `case $1 in
       start) echo "systemctl $*, with $(cat ${file} 2>/dev/null)" >> ${log}; exit "$START_STATUS" ;;
       show) case $3 in ActiveState) echo "$ACTIVE" ;; SubState) echo "$SUB" ;; *) echo 4711 ;; esac ;;
     esac
     echo "systemctl $*" >> ${log}`,
  );
  write("journalctl", `echo "journalctl $*" >> ${log}; echo deployed`);
  const text = script.replaceAll("/run/gradient-update.env", file);
  return (args: readonly string[], { startStatus = "0", active = "inactive", sub = "dead" }: UpdateSituation = {}) => {
    writeFileSync(log, "");
    const { status, stdout, stderr } = spawnSync("/bin/sh", ["-c", text, "gradient-update", ...args], {
      encoding: "utf8",
      env: { PATH: `${programs}:${process.env.PATH}`, START_STATUS: startStatus, ACTIVE: active, SUB: sub },
    });
    return { status, stdout, stderr, calls: readFileSync(log, "utf8").split("\n").filter(Boolean) };
  };
}
