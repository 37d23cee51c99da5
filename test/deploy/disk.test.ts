import { spawnSync } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { pathWithNix } from "../support/nix-path.ts";
import { type Fleet, type Published, withFleet } from "./support/fleet.ts";
import type { Host } from "./support/host.ts";
import { expectRuns, expectSettled, historyOf, viewOf } from "./support/server-view.ts";

const nix = nixAvailable();
const HOSTS = ["alpha", "beta"];
const PAYLOAD_BYTES = 6_000_000;
const DISK_BYTES = 10_000_000;

describe.skipIf(!nix.ok)("a host whose disk is too small for the new system", () => {
  let fleet: Fleet;
  let first: Published;
  let second: Published;
  let mounted: string | null = null;
  beforeAll(async () => {
    fleet = await withFleet({ label: "one", hosts: HOSTS });
    first = await fleet.evaluate();
    const payload = `head -c ${PAYLOAD_BYTES} /dev/urandom > $out/bin/bulk`;
    second = await fleet.publish({ label: "two", hosts: HOSTS, payload });
  });
  afterAll(async () => {
    if (mounted !== null) spawnSync("umount", ["--lazy", mounted]);
    await fleet?.[Symbol.asyncDispose]();
  });
  const path = (of: Published, host: Host) => of.systems[host.name] as string;

  test("fetches nothing where the margin would be touched, and says what is needed and what is left", async () => {
    const host = await fleet.hostWith("alpha", first.systems.alpha as string);
    host.env.GRADIENT_DEPLOY_DISK_MARGIN_MB = "99000000";
    fleet.network.seen.length = 0;
    const run = await host.run();
    expect(run).toMatchObject({ end: "disk-full", code: 32 });
    expect(run.reason).toMatch(/needs \d+ MB.*99000000 MB.*\d+ MB/s);
    expect(fleet.network.seen.filter((line) => line.includes("/nar/"))).toEqual([]);
    await expectRuns(host, path(first, host));
    // That says nothing about the build: nobody is kept from it.
    expect(await viewOf(fleet, "alpha")).toMatchObject({ state: "deploy", up_to_date: false, failed_paths: [] });

    host.env.GRADIENT_DEPLOY_DISK_MARGIN_MB = "0";
    expect(await host.run()).toMatchObject({ end: "deployed" });
    await expectSettled(fleet, host, path(second, host));
  });

  test("keeps the old one when the disk becomes full all the same, until there is room", async (context) => {
    const host = await fleet.host("beta");
    const place = join(host.root, "nix/store");
    await mkdir(place, { recursive: true });
    const { status } = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_BYTES},mode=755`, "tmpfs", place]);
    if (status !== 0) return context.skip("a small file system cannot be mounted here");
    mounted = place;
    // It may have its mounts for itself.
    await host.daemon.restart();
    await host.install(path(first, host), await fleet.cache());
    host.env.GRADIENT_DEPLOY_DISK_MARGIN_MB = "0";
    // There is room when the agent looks; then somebody else takes it.
    const filler = join(place, ".filler");
    const fill = `head -c ${DISK_BYTES} /dev/zero > '${filler}'`;
    const real = spawnSync("sh", ["-c", "command -v nix-store"], { env: { PATH: pathWithNix() }, encoding: "utf8" });
    const command = `case " $* " in *" --dry-run "*) ;; *) ${fill} ;; esac\nexec '${real.stdout.trim()}' "$@"\n`;
    const wrapper = join(host.root, "bin/nix-store");
    await writeFile(wrapper, `#!/bin/sh\n${command}`, { mode: 0o755 });
    const run = await host.run();
    expect(run).toMatchObject({ end: "disk-full", code: 32 });
    await expectRuns(host, path(first, host));
    expect((await historyOf(fleet, "beta")).map(({ step }) => step)).not.toContain("succeeded");

    await Promise.all([wrapper, filler].map((file) => rm(file)));
    expect(await host.run()).toMatchObject({ end: "deployed", code: 0 });
    await expectSettled(fleet, host, path(second, host));
  });
});
