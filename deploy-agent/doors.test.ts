import { spawnSync } from "node:child_process";
import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { NEW, OLD, withDeployRoot } from "#test/support/deploy-root.ts";
import { readSettings, serverTrouble } from "./read-settings.ts";
import { parseWanted, WantedError } from "./wanted.ts";

const root = await withDeployRoot();
beforeEach(() => root.reset());
afterAll(() => root[Symbol.asyncDispose]());

const UUID = "0199d1f5-0000-7000-8000-000000000021";
const BUILD = { build_id: UUID, evaluation_id: UUID, order: 0, store_path: NEW, commit: "c2" };
const answer = (build: Readonly<Record<string, unknown>>, reason: string | null = null) =>
  parseWanted({ state: "deploy", reason, build: { ...BUILD, ...build }, caches: [], can_report: true });

describe("what the server says is taken by exact rules", () => {
  test.each<readonly [string, unknown]>([
    ["build_id", "a b\0\n"],
    ["build_id", ""],
    ["evaluation_id", "7"],
    ["order", -1],
    ["order", 0.5],
    ["commit", "main"],
    ["commit", ""],
  ])("%s of a build is not %j", (name, value) => {
    expect(answer({}).build).toMatchObject({ buildId: UUID, order: 0 });
    expect(() => answer({ [name]: value })).toThrow(WantedError);
    expect(() => answer({ [name]: value })).toThrow(name);
  });

  test("what it says to people cannot steer their terminals, or look like a line of the agent", () => {
    const said = answer({}, "\u001b[2J\u001b]0;title\u0007\ndeployed: \u009bwell\tdone").reason ?? "";
    expect(said).not.toMatch(/\p{Cc}/u);
    expect(said).toContain("deployed:  well done");
  });
});

test("what is no system of NixOS is fetched, and touches nothing", async () => {
  rmSync(join(root.path, "remote", NEW.slice(11), "bin"), { recursive: true });
  const run = await root.run();
  expect(run).toMatchObject({ code: 23, json: { end: "bad-answer" } });
  expect(run.json.reason).toBe(`${NEW} is no system of NixOS: it has no bin/switch-to-configuration`);
  expect(root.links).toEqual({ profile: OLD, running: OLD });
  expect(root.read("switches")).toBe("");
  expect(root.reports.map(({ step }) => step)).toEqual(["started", "downloading", "failed"]);
});

test("a key that is a pipe does not keep the agent waiting", async () => {
  const pipe = join(root.path, "pipe");
  expect(spawnSync("mkfifo", [pipe]).status).toBe(0);
  chmodSync(pipe, 0o600);
  const run = await root.run("--api-key-file", pipe);
  expect(run).toMatchObject({ code: 3, json: { end: "key-file" } });
  expect(run.json.reason).toContain("no regular file");
});

test.each([
  ["http://localhost:3000", false],
  ["http://127.0.0.1", false],
  ["http://[::1]:3000/gradient", false],
  ["http://localhost.evil.example", true],
  ["http://127.evil.example", true],
  ["https://localhost.evil.example", false],
])("whether others can hear and change what is said to %s, so that it has to be allowed: %s", (server, isPlain) => {
  const environment = {
    GRADIENT_DEPLOY_SERVER: server,
    GRADIENT_DEPLOY_PROJECT: "myorg/myproject",
    GRADIENT_DEPLOY_API_KEY_FILE: "/key",
  };
  const { settings, warnings } = readSettings(environment, { machineName: "h" });
  expect(warnings).toEqual([]);
  expect(serverTrouble(settings) !== null).toBe(isPlain);
  const allowed = readSettings({ ...environment, GRADIENT_DEPLOY_ALLOW_HTTP: "true" }, { machineName: "h" });
  expect(serverTrouble(allowed.settings)).toBeNull();
  expect(allowed.warnings.some((warning) => warning.includes("unprotected"))).toBe(isPlain);
});
