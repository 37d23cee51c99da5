import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseArguments, UsageError, usage } from "./arguments.ts";
import { ENDS } from "./ends.ts";
import { type Environment, readSettings, SettingsError } from "./read-settings.ts";
import { ENVIRONMENT_PREFIX, flagOf, SETTING_NAMES, SETTINGS, type SettingSpec } from "./settings.ts";
import { isInWindow, parseWindow } from "./settings-values.ts";
import { AGENT_VERSION } from "./version.ts";

const REQUIRED: Environment = {
  GRADIENT_DEPLOY_SERVER: "https://gradient.example.com/",
  GRADIENT_DEPLOY_PROJECT: "myorg/myproject",
  GRADIENT_DEPLOY_API_KEY_FILE: "/var/lib/gradient-deploy/api-key",
};
const read = (environment: Environment, flags = {}) =>
  readSettings({ ...REQUIRED, ...environment }, { flags, machineName: "mymachine" });

/** A good value that differs from the fallback, by kind. */
const OTHER: Readonly<Record<SettingSpec["kind"], string>> = {
  url: "https://other.example.com",
  project: "other/one",
  host: "otherhost",
  path: "/other/path",
  "optional path": "/other/file",
  command: "/other/bin/command",
  boolean: "",
  seconds: "7",
  megabytes: "7",
  choice: "",
  shell: "test -e /other",
  "shell list": '["other"]',
  "unit list": "other.service",
  "key list": `other-1:${Buffer.alloc(32).toString("base64")}`,
  window: "01:00-02:00",
};

function otherValue(spec: SettingSpec): string {
  if (spec.kind === "boolean") return spec.fallback === "true" ? "false" : "true";
  if (spec.kind === "choice") return spec.choices?.find((choice) => choice !== spec.fallback) ?? "";
  return OTHER[spec.kind];
}

describe("settings", () => {
  test.each(SETTING_NAMES)("%s changes what is read, by environment and by flag alike", (name) => {
    const other = otherValue(SETTINGS[name]);
    const { settings: plain } = read({});
    const { settings: byEnvironment } = read({ [ENVIRONMENT_PREFIX + name]: other });
    const { flags } = parseArguments([flagOf(name), other]);
    const { settings: byFlag } = read({ [ENVIRONMENT_PREFIX + name]: "%%% wrong %%%" }, flags);
    expect(byEnvironment).not.toEqual(plain);
    expect(byFlag).toEqual(byEnvironment);
  });

  test("every field of them is used by some part of the agent", () => {
    const sources = [
      "run.ts health.ts reboot.ts waiting.ts mailbox.ts journal-runner.ts node-host.ts switcher.ts download.ts",
      "server-link.ts perform.ts machine.ts",
    ];
    const text = sources
      .join(" ")
      .split(" ")
      .map((name) => readFileSync(new URL(name, import.meta.url), "utf8"))
      .join("\n");
    const { settings } = read({});
    const fields = [...Object.keys(settings), ...Object.keys(settings.commands)];
    expect(fields.filter((field) => !new RegExp(`\\b${field}\\b`).test(text))).toEqual([]);
  });

  test("all that is wrong is told at once, with the value and what to do", () => {
    const environment = {
      GRADIENT_DEPLOY_SERVER: "gradient.example.com",
      GRADIENT_DEPLOY_PROJECT: "noslash",
      GRADIENT_DEPLOY_MODE: "reboot",
      GRADIENT_DEPLOY_WAIT_SECS: "1h",
      GRADIENT_DEPLOY_HEALTH_COMMANDS: "curl localhost",
      GRADIENT_DEPLOY_HEALTH_SETTLE_SECS: "61",
    };
    const problems = problemsOf(() => readSettings(environment, { machineName: "-bad-" }));
    for (const name of Object.keys(environment)) expect(problems.join("\n")).toContain(name);
    expect(problems.join("\n")).toContain("GRADIENT_DEPLOY_API_KEY_FILE (or --api-key-file) is missing");
    expect(problems.join("\n")).toContain("-bad-");
    expect(problems).toHaveLength(8);
  });

  test("a slip of a name is told with the name that was meant", () => {
    const { warnings } = read({ GRADIENT_DEPLOY_HEALTH_COMMAND: "[]" });
    expect(warnings).toEqual([
      "GRADIENT_DEPLOY_HEALTH_COMMAND is not a setting of this agent; did you mean GRADIENT_DEPLOY_HEALTH_COMMANDS?",
    ]);
  });

  test("the host is the machine's name, and the state folder that of the unit, unless said otherwise", () => {
    expect(read({}).settings).toMatchObject({ host: "mymachine", stateDir: "/var/lib/gradient-deploy" });
    const unit = read({ STATE_DIRECTORY: "/var/lib/one:/var/lib/two", GRADIENT_DEPLOY_HOST: "web-1" }).settings;
    expect(unit).toMatchObject({ host: "web-1", stateDir: "/var/lib/one" });
  });

  test("no text makes anything else than settings or an error that lists problems", () => {
    const environments = fc.dictionary(
      fc.constantFrom(...SETTING_NAMES.map((n) => ENVIRONMENT_PREFIX + n)),
      fc.string(),
    );
    void fc.assert(
      fc.property(environments, (environment) => {
        try {
          read(environment);
        } catch (error) {
          expect(error).toBeInstanceOf(SettingsError);
        }
      }),
    );
  });
});

function problemsOf(action: () => unknown): readonly string[] {
  try {
    action();
  } catch (error) {
    if (error instanceof SettingsError) return error.problems;
    throw error;
  }
  return [];
}

describe("the command line", () => {
  test("takes one command, switches and settings in any order", () => {
    const { command, switches, flags } = parseArguments(["--json", "--host=web", "watch", "--mode", "boot", "--force"]);
    expect({ command, switches: [...switches].sort(), flags }).toEqual({
      command: "watch",
      switches: ["--force", "--json"],
      flags: { HOST: "web", MODE: "boot" },
    });
    expect(parseArguments([]).command).toBe("run");
  });

  test("refuses what it does not know, twice the same, and two commands, all at once", () => {
    const words = ["statsu", "--mode", "boot", "--mode=boot", "run", "watch", "--host"];
    expect(() => parseArguments(words)).toThrow(UsageError);
    expect(() => parseArguments(words)).toThrow(
      /did you mean status.*--mode is given twice.*--host needs.*only one of/s,
    );
  });

  test("explains every setting", () => {
    for (const name of SETTING_NAMES) expect(usage()).toContain(`${flagOf(name)} VALUE`);
  });
});

describe("a window of time", () => {
  test("passes midnight where its end is before its beginning", () => {
    const night = parseWindow("22:30-04:00");
    expect(night).toEqual({ ok: true, value: { fromMinute: 1350, toMinute: 240 } });
    const window = { fromMinute: 1350, toMinute: 240 };
    expect([1349, 1350, 1439, 0, 239, 240].map((minute) => isInWindow(window, minute))).toEqual([
      false,
      true,
      true,
      true,
      true,
      false,
    ]);
  });

  test.each(["2:00-5:00", "24:00-05:00", "02:00", "02:00-02:00", "02:60-03:00"])("is not %s", (text) => {
    expect(parseWindow(text).ok).toBe(false);
  });

  test("and the one from its end to its beginning share each minute of the day", () => {
    const minute = fc.integer({ min: 0, max: 1439 });
    void fc.assert(
      fc.property(minute, minute, minute, (fromMinute, toMinute, now) => {
        fc.pre(fromMinute !== toMinute);
        const inside = isInWindow({ fromMinute, toMinute }, now);
        expect(isInWindow({ fromMinute: toMinute, toMinute: fromMinute }, now)).toBe(!inside);
      }),
    );
  });
});

test("every end but success has an exit code of its own, below those of signals", () => {
  const codes = Object.values(ENDS).map(({ exitCode }) => exitCode);
  const failures = codes.filter((code) => code !== 0);
  expect(new Set(failures).size).toBe(failures.length);
  expect(codes.every((code) => code >= 0 && code < 64)).toBe(true);
});

test("the agent has the version of the release", () => {
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  expect(AGENT_VERSION).toBe(version);
});

describe("docs/deploy-agent.md", () => {
  const page = readFileSync(new URL("../docs/deploy-agent.md", import.meta.url), "utf8");
  const rows = page.split("\n").map((line) => line.split(/ *(?<!\\)\| */).slice(1, -1));

  test.each(Object.entries(ENDS))("has the end %s with its code", (name, { exitCode, expected, description }) => {
    expect(rows).toContainEqual([`\`${name}\``, `${exitCode}`, expected ? "yes" : "", description]);
  });

  test.each(SETTING_NAMES)("has the setting %s with its fallback", (name) => {
    const { fallback, description }: SettingSpec = SETTINGS[name];
    const shown = fallback === null ? "required" : fallback && `\`${fallback}\``;
    expect(rows).toContainEqual([`\`${name}\``, shown, description]);
  });
});
