import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { isHostName } from "#core/domain/deployment.ts";
import { ENDS } from "#deploy-agent/ends.ts";
import { type DeploySettings, readSettings } from "#deploy-agent/read-settings.ts";
import { SETTINGS, type SettingSpec } from "#deploy-agent/settings.ts";
import { parseHost } from "#deploy-agent/settings-values.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { canEvaluate, evaluateSystems } from "./support/evaluate.ts";
import { snippet, sound, startedEnvironment, unitOf } from "./support/systems.ts";

const FLAKE_MODULE = "inputs.gradient.nixosModules.deploy";
const DOCUMENTED = snippet("deploy");
const withDeploy = (...texts: readonly string[]) =>
  `({ inputs, lib, ... }: { imports = [ ${FLAKE_MODULE} ${texts.join(" ")} ]; })`;
const withOptions = (text: string) =>
  withDeploy(DOCUMENTED, `({ lib, ... }: { system.gradient-deploy = { ${text} }; })`);

const KEY = `${"A".repeat(43)}=`;

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
  ["allowHttp = true;", (s) => s.allowHttp, true],
  [`trustedPublicKeys = [ "a-1:${KEY}" "b-2:${KEY}" ];`, (s) => s.trustedPublicKeys, [`a-1:${KEY}`, `b-2:${KEY}`]],
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
  ["system.gradient-deploy.health.commands holds an empty command.", 'health.commands = [ "true" "  " ];'],
  [
    "system.gradient-deploy.health.ignoredUnits takes at most 100 names; * in one stands for anything.",
    'health.ignoredUnits = builtins.genList (_: "a.service") 101;',
  ],
  [
    "system.gradient-deploy.server has the port 99999, which is none: ports end at 65535.",
    'server = lib.mkForce "https://g.example.com:99999";',
  ],
  [
    "system.gradient-deploy.server has the port https, which is none: ports end at 65535.",
    'server = lib.mkForce "https://g.example.com:https/";',
  ],
  [
    "system.gradient-deploy.server has the port 65536, which is none: ports end at 65535.",
    'server = lib.mkForce "https://[2001:db8::1]:65536/x";',
  ],
  ...["http://gradient.example.com", "http://localhost.evil.example", "http://127.0.0.1.evil.example:80"].map(
    (server): readonly [string, string] => [
      "system.gradient-deploy.server is asked by http: the keys of the caches come in its answer, so whoever is on " +
        "the way would be root on this host. Use https, or accept that with system.gradient-deploy.allowHttp = true.",
      `server = lib.mkForce "${server}";`,
    ],
  ),
  ...["[ ]", '""', '[ "" ]'].map((dates): readonly [string, string] => [
    "system.gradient-deploy.dates names no time. For a host without the timer (watch.enable, gradient-update): " +
      "systemd.timers.gradient-deploy.enable = false.",
    `dates = ${dates};`,
  ]),
];

/** What is of no right type: the evaluation ends there. */
const NO_VALUES = [
  `project = lib.mkForce "x";`,
  `server = lib.mkForce "gradient.example.com";`,
  `server = lib.mkForce "https://user@gradient.example.com";`,
  `trustedPublicKeys = [ "main-1" ];`,
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
  unnamed: withDeploy(DOCUMENTED, `{ networking.hostName = ""; }`),
  unchecked: withOptions("validateSettings = false;"),
  onLastPort: withOptions(`server = lib.mkForce "https://[2001:db8::1]:65535/x";`),
  byHttp: withOptions(`allowHttp = true; server = lib.mkForce "http://gradient.example.com";`),
  atHome: withOptions(`server = lib.mkForce "http://[::1]:3000";`),
  longProject: withOptions(`project = lib.mkForce "acme/${"a".repeat(200)}";`),
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
      apiKeyFile: "/var/lib/gradient-deploy/api-key",
    });
    expect(sound(system("plain")).warnings).toEqual([]);
    expect(Object.keys(sound(system("plain")).services)).toEqual([
      "gradient-deploy",
      "gradient-deploy-resume",
      "gradient-deploy@",
    ]);
  });

  test("a machine without a name of its own asks as what it is called when the agent runs", () => {
    expect(started("unnamed").settings.host).toBe("machine");
  });

  test("the last port there is may be the server's", () => {
    expect(started("onLastPort").settings.server).toBe("https://[2001:db8::1]:65535/x");
  });

  test("http is for this machine, and for who accepts what it means", () => {
    expect(started("byHttp").settings).toMatchObject({ server: "http://gradient.example.com", allowHttp: true });
    expect(started("atHome").settings).toMatchObject({ server: "http://[::1]:3000", allowHttp: false });
  });

  test("a system is not built whose agent could not read its settings", () => {
    const check = (name: string) => {
      const out = join(folder.path, `checked-${name}`);
      const main = join(import.meta.dirname, "../../deploy-agent/main.ts");
      const script = (sound(system(name)).checks[0] ?? "").replace(
        /^\S+\/bin\/gradient-deploy /m,
        `${process.execPath} ${main} `,
      );
      const { status, stdout, stderr } = spawnSync("/bin/sh", ["-e", "-c", script], {
        encoding: "utf8",
        env: { PATH: process.env.PATH, out },
      });
      return { status, said: stdout + stderr, isBuilt: existsSync(out) };
    };
    expect(check("plain")).toMatchObject({ status: 0, isBuilt: true });
    expect(check("unnamed")).toMatchObject({ status: 0, isBuilt: true });
    const refused = check("longProject");
    expect(refused).toMatchObject({ status: 2, isBuilt: false });
    expect(refused.said).toContain("GRADIENT_DEPLOY_PROJECT=acme/aaa");
    expect(sound(system("unchecked")).checks).toEqual([]);
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
    expect(units.length).toBe(4);
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
    const passing = ["state", "unreachable", "bad-answer", "download-failed", "rollback-failed", "interrupted"];
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

  test("no unit needs the key's file to start: what was under way is finished or undone without it", () => {
    for (const { serviceConfig, environment } of Object.values(sound(system("watching")).services)) {
      expect(serviceConfig).not.toHaveProperty("LoadCredential");
      expect(environment.GRADIENT_DEPLOY_API_KEY_FILE).toBe("/var/lib/gradient-deploy/api-key");
    }
  });

  test("what a reboot or a loss of power has left is looked at a minute after the boot, also without a key", () => {
    const { serviceConfig, unitConfig, wantedBy } = unit("plain", "gradient-deploy-resume");
    expect(serviceConfig.ExecStart).toMatch(/\/bin\/gradient-deploy resume$/);
    expect(unitConfig.ConditionPathExists).toBe("/var/lib/gradient-deploy/state.json");
    expect(serviceConfig.RestartPreventExitStatus).toBe(unit("plain").serviceConfig.RestartPreventExitStatus);
    expect(serviceConfig).toMatchObject({ Restart: "on-failure", RestartSec: 300, RestartMaxDelaySec: 3600 });
    // A switch must not start it: it would wait for the very run that switches.
    expect(wantedBy).toEqual([]);
    expect(sound(system("plain")).timers["gradient-deploy-resume"]?.timerConfig).toEqual({ OnBootSec: "1min" });
  });

  test("watch.enable keeps an agent at the server, with the same settings", () => {
    const watching = unit("watching", "gradient-deploy-watch");
    expect(watching.serviceConfig.ExecStart).toMatch(/\/bin\/gradient-deploy watch$/);
    expect(watching.serviceConfig.Restart).toBe("always");
    expect(watching.wantedBy).toEqual(["multi-user.target"]);
    expect(watching.environment).toEqual(unit("watching").environment);
    expect(sound(system("plain")).services).not.toHaveProperty("gradient-deploy-watch");
  });

  test("watch starts at once after each update, and ever more rarely while it cannot, as without a key", () => {
    const { serviceConfig } = unit("watching", "gradient-deploy-watch");
    expect(serviceConfig).toMatchObject({ RestartSec: 5, RestartSteps: 6, RestartMaxDelaySec: 300 });
    // Its counter of restarts is put back by this.
    expect(serviceConfig.ExecStopPost).toContain("gradient-deploy-watched");
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

  test("gradient-deploy of the command line has the settings of the unit, and the key", async () => {
    const text = `health.commands = [ "curl -w '100%' http://localhost" ''test "$HOME" = "a b"'' ];`;
    const script = sound(system(text)).commands["gradient-deploy"] ?? "";
    const shown = script.replace(/exec \S+/, "env -0 #");
    const { stdout } = spawnSync("/bin/sh", ["-c", shown], { encoding: "utf8", env: { PATH: process.env.PATH } });
    const seen = Object.fromEntries(stdout.split("\0").map((line) => line.split(/=(.*)/s).slice(0, 2)));
    const { settings } = readSettings(seen, { machineName: "machine" });
    expect(settings).toEqual(started(text).settings);
    expect(script).toContain('/bin/gradient-deploy "$@"');
  });
});
