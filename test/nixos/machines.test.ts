import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { apiKeySecret } from "#core/domain/api-key.ts";
import { checkState } from "#core/services/state-check.ts";
import { readSettings } from "#deploy-agent/read-settings.ts";
import { readConfig } from "#runtime/node/config.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { readWorkerConfig } from "#worker/config.ts";
import { canEvaluate, evaluateSystems } from "./support/evaluate.ts";
import { sound, startedEnvironment, unitOf } from "./support/systems.ts";

const TESTS = join(import.meta.dirname, "../../nixos/tests");

/** A machine of a test that boots machines, with the options that such a test brings. */
function machine(file: string, name: string): string {
  return `({ inputs, lib, pkgs, ... }:
    let
      node = (import ${join(TESTS, file)} { self = inputs.gradient; }).nodes.${name};
      given = { inherit pkgs lib; nodes.server.networking.primaryIPAddress = "192.168.1.2"; };
      any = lib.mkOption { type = lib.types.anything; default = { }; };
    in {
      imports = [
        (if builtins.isFunction node then node given else node)
        {
          options = {
            virtualisation = any;
            environment.etc = any;
            networking.extraHosts = any;
            networking.firewall = any;
            nix.settings.sandbox = any;
          };
        }
      ];
      ${name === "host" ? "" : "config.services.gradient.validateState = false;"}
    })`;
}

const folder = await withTemporaryFolder();
afterAll(async () => await folder[Symbol.asyncDispose]());

describe.skipIf(!canEvaluate())("the machines that are booted where there are nixpkgs and KVM", () => {
  const evaluated = evaluateSystems({
    one: machine("one-machine.nix", "machine"),
    server: machine("deploy.nix", "server"),
    host: machine("deploy.nix", "host"),
  });
  const started = (name: keyof typeof evaluated, unit: string) =>
    startedEnvironment(unitOf(evaluated[name], unit), join(folder.path, name));

  test.each(["one", "server"] as const)(
    "%s: server and worker take their configuration, and the state is good",
    (name) => {
      expect(sound(evaluated[name]).warnings).toEqual([]);
      expect(readConfig(started(name, "gradient-server")).warnings).toEqual([]);
      expect(readWorkerConfig(started(name, "gradient-worker")).warnings).toEqual([]);
      const state = JSON.parse(sound(evaluated[name]).stateFile ?? "") as unknown;
      expect(checkState(state, { allowLocalSources: name === "server", mailEnabled: null }).problems).toEqual([]);
    },
  );

  test("host: its agent takes its configuration, and asks with a key that is one", () => {
    const { settings } = readSettings(started("host", "gradient-deploy"), { machineName: "host" });
    expect(settings.project).toEqual({ organization: "acme", name: "fleet" });
    const [, key = ""] = /token = "([^"]+)"/.exec(readFileSync(join(TESTS, "deploy.nix"), "utf8")) ?? [];
    expect(apiKeySecret(`GRAD${key}`)).not.toBeNull();
  });
});
