import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { nixAvailable, nixOutput, runNix } from "../support/nix.ts";
import { commitFlake } from "./flake.ts";
import { addProject, CACHE, type Gradient, ORGANIZATION, publicKey, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

/** A chain of slow builds, and one whose output takes a while to upload. */
const SLOW = `{
  outputs = { self }: let
    mk = name: script: extra: derivation ({
      inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    } // extra);
    first = mk "first" "echo one; sleep 1; echo first > $out" {};
    second = mk "second" "cat \${first}; sleep 1; cat \${first} > $out" {};
    third = mk "third" "cat \${second}; sleep 0.2; cat \${second} > $out" {};
    large = mk "large" "head -c 300000000 /dev/urandom > $out" {};
    small = mk "small" "cat \${third} > $out; head -c 100 \${large} >> $out" {};
  in { packages.x86_64-linux = { inherit third large small; }; };
}
`;

describe.skipIf(!nix.ok)(`whatever dies, every evaluation ends right${reason}`, () => {
  test("a worker that is killed in the middle of a build gives it back, and the evaluation completes", async () => {
    await using gradient = await withGradient();
    const evaluation = await evaluateSlow(gradient);
    await waitForBuild(gradient, evaluation, "first", "Building");

    await gradient.worker.kill();
    await gradient.startWorker();

    expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });
    await verifyAll(gradient, evaluation);
  });

  test("a server that is killed in mid-upload takes nothing along, and the evaluation completes", async () => {
    await using gradient = await withGradient();
    const evaluation = await evaluateSlow(gradient);
    await waitForUnfinishedObject(gradient, 1_000_000);

    await gradient.server.kill();
    await gradient.startServer();

    expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });
    await verifyAll(gradient, evaluation);
    expect(await unfinishedObjects(gradient)).toEqual([]);
  });

  test("killed again and again, all of them, it still ends", async () => {
    await using gradient = await withGradient();
    const evaluation = await evaluateSlow(gradient);
    for (let round = 0; round < 3; round++) {
      await sleep(700 + 300 * round);
      if (round % 2 === 0) {
        await gradient.server.kill();
        await gradient.startServer();
      } else {
        await gradient.worker.kill();
        await gradient.startWorker();
      }
    }

    expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });
    await verifyAll(gradient, evaluation);
  });

  test("an aborted evaluation stops its builder at once", async () => {
    await using gradient = await withGradient();
    const url = await commitFlake(
      join(gradient.folder, "endless"),
      { "flake.nix": SLOW.replace("sleep 1; echo first", "sleep 3600; echo first") },
      "An endless build",
    );
    const project = await addProject(gradient.api, "endless", url, "packages.*.third");
    const evaluation = await gradient.api.evaluate(project);
    await waitForBuild(gradient, evaluation, "first", "Building");

    await gradient.api.request("POST", `/evals/${evaluation}`, { method: "abort" });

    expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Aborted" });
    const statuses = (await gradient.api.builds(evaluation)).map(({ status }) => status);
    expect(new Set(statuses)).toEqual(new Set(["Aborted"]));
    await expect.poll(() => sleepers(), { timeout: 5_000 }).toEqual([]);
  });
});

async function evaluateSlow(gradient: Gradient): Promise<string> {
  const url = await commitFlake(join(gradient.folder, "slow"), { "flake.nix": SLOW }, "Slow builds");
  const project = await addProject(gradient.api, "slow", url, "packages.*");
  return await gradient.api.evaluate(project);
}

async function waitForBuild(gradient: Gradient, evaluation: string, name: string, status: string): Promise<void> {
  const find = async () =>
    (await gradient.api.builds(evaluation)).find((build) => build.name.endsWith(`-${name}.drv`))?.status;
  await expect.poll(find, { timeout: 20_000, interval: 30 }).toBe(status);
}

async function waitForUnfinishedObject(gradient: Gradient, bytes: number): Promise<void> {
  const largest = async () => Math.max(0, ...(await unfinishedObjects(gradient)));
  await expect.poll(largest, { timeout: 60_000, interval: 20 }).toBeGreaterThan(bytes);
}

/** Sizes of the objects that are being written. */
async function unfinishedObjects({ storage }: Gradient): Promise<number[]> {
  const folder = join(storage, ".unfinished");
  const names = await readdir(folder).catch(() => []);
  const sizes = names.map(async (name) => (await readFile(join(folder, name)).catch(() => Buffer.alloc(0))).length);
  return await Promise.all(sizes);
}

/** Stock Nix takes everything out of the cache and verifies it. */
async function verifyAll(gradient: Gradient, evaluation: string): Promise<void> {
  const key = await publicKey(gradient.api);
  const env = { ...gradient.daemon.env, NIX_REMOTE: "" };
  const store = join(gradient.daemon.folder, "verified");
  const points = await gradient.api.request<{ build_id: string }[]>(
    "GET",
    `/projects/${ORGANIZATION}/slow/entry-points?evaluation_id=${evaluation}`,
  );
  expect(points).toHaveLength(3);
  for (const { build_id } of points) {
    const { output } = await gradient.api.request<{ output: { out: string } }>("GET", `/builds/${build_id}`);
    const out = `/nix/store/${output.out}`;
    const trust = ["--option", "trusted-public-keys", key] as const;
    await nixOutput(["nix", "copy", "--from", `${gradient.url}/cache/${CACHE}`, "--to", store, out, ...trust], env);
    expect((await runNix(["nix", "store", "verify", "--store", store, "-r", out, ...trust], env)).code).toBe(0);
  }
}

async function sleepers(): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (command.startsWith("sleep\x003600")) found.push(pid);
  }
  return found;
}
