import { rm } from "node:fs/promises";
import { join } from "node:path";
import { addProject, CACHE, type Gradient, publicKey, withGradient } from "#test/e2e/gradient.ts";
import { nixOutput } from "#test/support/nix.ts";
import type { Aim, Figure, PartResult } from "./figures.ts";
import { makeFilesFlake, SYSTEM } from "./flakes.ts";
import { forgetPeak, peakMemoryBytes } from "./processes.ts";
import { makeRepository } from "./repository.ts";

const MEGA = 1_000_000;
const AIM: Aim = { valueMax: 200 };
const EVALUATION_MS_MAX = 600_000;

/** Each goes through alone, in this order. */
const OUTPUTS = {
  small: { what: "1 MB", script: "head -c 1000000 /dev/urandom > $out" },
  // zstd's window at the level that caches use is 2 MB: it does not see that the file repeats itself.
  random: {
    what: "4 GB that do not compress",
    script: "head -c 16000000 /dev/urandom > block; for i in $(seq 250); do cat block; done > $out",
  },
  zeros: { what: "2 GB of zeros", script: "head -c 2000000000 /dev/zero > $out" },
} as const;

const NOTES = [
  "`memory`: the peak resident memory (`VmHWM`) of the server's and the worker's process, Node itself included, " +
    "without PostgreSQL, " +
    "evaluators and builders, while one output is built, uploaded and loaded by `nix copy --from`. The " +
    "peak begins anew before each output (proc(5), clear_refs). The 4 GB that do not compress are 16 MB of random " +
    "bytes, 250 times: farther apart than zstd looks back.",
];

/** How much memory one output costs the server and the worker, by its size. */
export async function benchMemory(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  await using gradient = await withGradient(settings);
  const scripts = Object.fromEntries(Object.entries(OUTPUTS).map(([name, { script }]) => [name, script]));
  const repository = await makeRepository(gradient, "all", makeFilesFlake(scripts));
  const outputs = await repository.outputs(gradient.daemon.env);
  const figures: Figure[] = [];
  for (const [name, { what }] of Object.entries(OUTPUTS)) {
    const url = repository.url.slice("git+".length);
    const project = await addProject(gradient.api, name, url, `packages.${SYSTEM}.${name}`);
    const processes = { server: gradient.server.pid, worker: gradient.worker.pid };
    for (const pid of Object.values(processes)) await forgetPeak(pid);
    await passThrough(gradient, project, outputs[name] as string);
    for (const [process, pid] of Object.entries(processes)) {
      const ours = (await peakMemoryBytes(pid)) / MEGA;
      figures.push({
        part: "memory",
        what: `${process}: ${what}`,
        unit: "MB",
        ours,
        other: null,
        aim: AIM,
        samples: 1,
      });
    }
  }
  return { figures, notes: NOTES };
}

/** Build, upload, download. */
async function passThrough(gradient: Gradient, project: string, path: string): Promise<void> {
  const { status } = await gradient.api.waitForEnd(await gradient.api.evaluate(project), EVALUATION_MS_MAX);
  if (status !== "Completed") throw new Error(`the evaluation of ${path} ended ${status}`);
  const store = join(gradient.folder, "copied");
  const keys = ["--option", "trusted-public-keys", await publicKey(gradient.api)];
  const command = ["nix", "copy", "--from", `${gradient.url}/cache/${CACHE}`, "--to", store, path, ...keys] as const;
  await nixOutput([...command], { ...gradient.daemon.env, NIX_REMOTE: "" });
  await nixOutput(["chmod", "-R", "u+w", store], {});
  await rm(store, { recursive: true });
}
