import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { canEvaluate, evaluateSystems, type Service } from "./support/evaluate.ts";
import { MINIMAL, REMOTE_WORKER, snippet, sound, withModules, withServer, withWorker } from "./support/systems.ts";
import { unitText } from "./support/unit-text.ts";

const { status, stdout } = spawnSync("systemd-analyze", ["--version"], { encoding: "utf8" });
const systemd = status === 0;
const version = Number(/^systemd (\d+)/.exec(stdout ?? "")?.[1]);
/** By the version that brought them. Older ones leave the line out, and say so. */
const YOUNG_KEYS = { OpenFile: 253, RestartSteps: 254, RestartMaxDelaySec: 254 };
const unknownKeys = Object.entries(YOUNG_KEYS).flatMap(([key, since]) => (version < since ? [key] : []));
const RELAY = `services.gradient.worker = {
  discoverable = true;
  capabilities.federate = true;
  downstreamsFile = "/run/secrets/downstreams";
};`;

/** systemd's own measure: 0 is nothing to gain for who takes the service over, 10 the whole machine. */
const EXPOSURE_MAX = { "gradient-server": 2, "gradient-worker-token": 2, "gradient-worker": 5.5, relay: 2 };

describe.skipIf(!canEvaluate() || !systemd)("the units", () => {
  const evaluated = evaluateSystems({
    beside: withServer(MINIMAL, snippet("oidc"), snippet("worker-beside-server")),
    relay: withWorker(REMOTE_WORKER, RELAY),
    behindProxy: withServer(
      MINIMAL,
      snippet("worker-beside-server"),
      `networking.proxy.envVars.https_proxy = "http://me:a%20b@proxy.example.com:3128";
       services.gradient.storage.sharedPath = "/mnt/gradient";`,
    ),
    host: withModules(["deploy"], [`imports = [ ${snippet("deploy")} ]; system.gradient-deploy.watch.enable = true;`]),
  });
  const units: Readonly<Record<string, Service | undefined>> = {
    ...sound(evaluated.beside).services,
    relay: sound(evaluated.relay).services["gradient-worker"],
    ...sound(evaluated.host).services,
  };

  test.each(Object.keys(units))("systemd takes %s as it is", async (name) => {
    const unit = units[name];
    if (!unit) throw new Error("there is no such unit");
    await using folder = await withTemporaryFolder();
    const path = join(folder.path, `${name}.service`);
    writeFileSync(path, unitText(unit, "/bin/sh"));
    const { status, stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", path], { encoding: "utf8" });
    const words = stderr.split("\n").filter((line) => line.includes(`${name}.service`));
    expect(
      words.filter((line) => !unknownKeys.includes(/Unknown key (?:name )?'(\w+)'/.exec(line)?.[1] ?? "")),
    ).toEqual([]);
    expect(status).toBe(0);
  });

  test("server and worker hand the machine's proxy on to git and Nix, percent signs as they are", () => {
    for (const name of ["gradient-server", "gradient-worker"]) {
      // systemd makes one of two.
      const given = sound(evaluated.behindProxy).services[name]?.environment.https_proxy;
      expect(given).toBe("http://me:a%%20b@proxy.example.com:3128");
      expect(units[name]?.environment).not.toHaveProperty("https_proxy");
    }
  });

  test("the server does not start before the disks that it keeps things on", () => {
    const required = (services: Readonly<Record<string, Service | undefined>>) =>
      services["gradient-server"]?.unitConfig.RequiresMountsFor;
    expect(required(units)).toEqual(["/var/lib/gradient"]);
    expect(required(sound(evaluated.behindProxy).services)).toEqual(["/var/lib/gradient", "/mnt/gradient"]);
  });

  test("server and worker say by themselves that they are up and alive, and nobody else in their units", () => {
    for (const name of ["gradient-server", "gradient-worker", "relay"]) {
      expect(units[name]?.serviceConfig).toMatchObject({
        Type: "notify",
        NotifyAccess: "main",
        OpenFile: "/run/systemd/notify:notify",
        WatchdogSec: "2min",
      });
    }
  });

  test.each(Object.entries(EXPOSURE_MAX))("whoever takes %s over gains little", async (name, exposureMax) => {
    const unit = units[name];
    if (!unit) throw new Error("there is no such unit");
    await using folder = await withTemporaryFolder();
    const path = join(folder.path, `${name}.service`);
    writeFileSync(path, unitText(unit, "/bin/sh"));
    const { stdout } = spawnSync("systemd-analyze", ["security", "--offline=true", "--no-pager", path], {
      encoding: "utf8",
    });
    const exposure = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]);
    expect(exposure).toBeLessThanOrEqual(exposureMax);
  });
});
