import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { canEvaluate, evaluateSystems } from "./support/evaluate.ts";
import { credentialsOf, snippet, sound, unitOf } from "./support/systems.ts";

const MODULE = join(import.meta.dirname, "../../nixos/modules/deploy");
const AGENT = `{ system.gradient-deploy.package = {
  type = "derivation"; name = "gradient-deploy";
  outPath = "/nix/store/00000000000000000000000000000000-gradient-deploy";
}; }`;
const withDeploy = (...texts: readonly string[]) => `{ imports = [ ${MODULE} ${AGENT} ${texts.join(" ")} ]; }`;

const REFUSED: Readonly<Record<string, string>> = {
  "system.gradient-deploy.server is required": "({ lib, ... }: { system.gradient-deploy.server = lib.mkForce null; })",
  "system.gradient-deploy.project is required":
    "({ lib, ... }: { system.gradient-deploy.project = lib.mkForce null; })",
  "system.gradient-deploy.apiKeyFile is required":
    "({ lib, ... }: { system.gradient-deploy.apiKeyFile = lib.mkForce null; })",
};

const systems = {
  plain: withDeploy(snippet("deploy")),
  timed: withDeploy(snippet("deploy"), snippet("deploy-timer")),
  options: withDeploy(
    snippet("deploy"),
    `{ system.gradient-deploy = { deployFor = "other"; dates = "weekly"; randomizedDelaySec = "45min"; }; }`,
    `{ networking.proxy.envVars.https_proxy = "http://proxy.example.com:3128"; }`,
  ),
  wrongProject: withDeploy(snippet("deploy"), `({ lib, ... }: { system.gradient-deploy.project = lib.mkForce "x"; })`),
  off: withDeploy(),
  ...Object.fromEntries(Object.entries(REFUSED).map(([title, text]) => [title, withDeploy(snippet("deploy"), text)])),
};

describe.skipIf(!canEvaluate())("system.gradient-deploy", () => {
  const evaluated = evaluateSystems<string>(systems);
  const system = (name: string) => evaluated[name] ?? null;
  const unit = (name: string) => unitOf(system(name), "gradient-deploy");
  const timer = (name: string) => sound(system(name)).timers["gradient-deploy"]?.timerConfig;

  test("the documentation's configuration asks at four in the morning, with the key as a credential", () => {
    expect(timer("plain")).toEqual({ OnCalendar: "04:00", RandomizedDelaySec: "0", Persistent: true });
    expect(unit("plain").environment).toEqual({
      GRADIENT_DEPLOY_SERVER: "https://gradient.example.com",
      GRADIENT_DEPLOY_PROJECT: "myorg/myproject",
      GRADIENT_DEPLOY_HOST: "host",
      GRADIENT_DEPLOY_API_KEY_FILE: "%d/api-key",
      HOME: "/var/lib/gradient-deploy",
    });
    expect(credentialsOf(unit("plain"))).toEqual({ "api-key": "/var/lib/gradient-deploy/api-key" });
    expect(sound(system("plain")).tmpfiles).toEqual(["d /var/lib/gradient-deploy 0700 root root -"]);
    expect(sound(system("plain")).commands).toEqual(["gradient-update"]);
  });

  test("another time takes the place of four o'clock", () => {
    expect(timer("timed")?.OnCalendar).toBe("*-*-* 02:00:00");
  });

  test("a switch neither restarts nor stops the unit that makes it", () => {
    expect(unit("plain").restartIfChanged).toBe(false);
    expect(unit("plain").unitConfig).toEqual({ "X-StopOnRemoval": false });
  });

  test("host, time, delay and the machine's proxy take effect", () => {
    expect(timer("options")).toMatchObject({ OnCalendar: "weekly", RandomizedDelaySec: "45min" });
    expect(unit("options").environment).toMatchObject({
      GRADIENT_DEPLOY_HOST: "other",
      https_proxy: "http://proxy.example.com:3128",
    });
  });

  test("without enable nothing is set up", () => {
    expect(sound(system("off")).services).toEqual({});
    expect(sound(system("off")).timers).toEqual({});
  });

  test.each(Object.keys(REFUSED))("what is missing is told: %s", (words) => {
    expect(system(words)?.failed).toEqual([`${words}.`]);
  });

  test("a project without its organization is refused", () => {
    expect(system("wrongProject")).toBeNull();
  });
});
