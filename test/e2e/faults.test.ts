import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { processesWith } from "../support/processes.ts";
import { outputOf } from "./builds.ts";
import { CacheClient } from "./cache-client.ts";
import { commitFlake } from "./flake.ts";
import { addProject, type Gradient, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

/** A chain of slow builds that begins with this command, and one build whose output takes a while to upload. */
function slowFlake(begin: string): string {
  return `{
  outputs = { self }: let
    mk = name: script: derivation {
      inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    };
    first = mk "first" "echo one; ${begin}; echo first > $out";
    second = mk "second" "cat \${first}; sleep 1; cat \${first} > $out";
    third = mk "third" "cat \${second}; sleep 0.2; cat \${second} > $out";
    large = mk "large" "head -c 300000000 /dev/urandom > $out";
    small = mk "small" "cat \${third} > $out; head -c 100 \${large} >> $out";
  in { packages.x86_64-linux = { inherit third large small; }; };
}
`;
}

async function evaluate(gradient: Gradient, flake: string, wildcard: string): Promise<string> {
  const url = await commitFlake(join(gradient.folder, "slow"), { "flake.nix": flake }, "Slow builds");
  return await gradient.api.evaluate(await addProject(gradient.api, "slow", url, wildcard));
}

describe.skipIf(!nix.ok)(`whatever dies, every evaluation ends right${reason}`, () => {
  test("server and worker are killed again and again", { timeout: 180_000 }, async () => {
    await using gradient = await withGradient();
    const evaluation = await evaluate(gradient, slowFlake("sleep 1"), "packages.*");
    for (let round = 0; round < 3; round++) {
      await sleep(700 + 300 * round);
      expect(await gradient.api.evaluation(evaluation)).not.toMatchObject({ status: "Completed" });
      if (round % 2 === 0) {
        await gradient.server.kill();
        await gradient.startServer();
      } else {
        await gradient.worker.kill();
        await gradient.startWorker();
      }
    }

    expect(await gradient.api.waitForEnd(evaluation, 60_000)).toMatchObject({ status: "Completed" });
    const client = new CacheClient(gradient, "verified");
    for (const name of ["third", "large", "small"]) {
      await client.copyAndVerify(await outputOf(gradient, evaluation, name));
    }
  });

  test("an aborted evaluation stops its builder at once", async () => {
    await using gradient = await withGradient();
    // No other process of the machine has this command line.
    const endless = `sleep 3600.${process.pid}`;
    const evaluation = await evaluate(gradient, slowFlake(endless), "packages.*.third");
    await expect.poll(() => processesWith(endless), { timeout: 20_000 }).not.toEqual([]);

    await gradient.api.request("POST", `/evals/${evaluation}`, { method: "abort" });

    expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Aborted" });
    const statuses = (await gradient.api.builds(evaluation)).map(({ status }) => status);
    expect(new Set(statuses)).toEqual(new Set(["Aborted"]));
    await expect.poll(() => processesWith(endless), { timeout: 5_000 }).toEqual([]);
  });
});
