import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable, nixOutput } from "../support/nix.ts";
import { findBuild, outputOf } from "./builds.ts";
import { commitFlake } from "./flake.ts";
import { addProject, type Gradient, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const MIB = 2 ** 20;
const LINKS = 100;
/** What a build may write, all of it kept up to the server's own limit of a log. */
const LOG_BYTES = Number(process.env.LB ?? 1e9);

/** Packages by name: attributes of an expression in which `mk NAME SCRIPT` is a derivation. */
function flakeOf(packages: Readonly<Record<string, string>>): string {
  const attributes = Object.entries(packages).map(([name, expression]) => `${name} = ${expression};`);
  return `{ outputs = { self }: let
    system = "x86_64-linux";
    mk = name: script: derivation {
      inherit name system; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    };
    chain = n: if n == 0 then mk "link-0" "echo 0 > $out"
      else mk "link-\${toString n}" "read before < \${chain (n - 1)}; echo $((before + 1)) > $out";
  in { packages.\${system} = { ${attributes.join("\n")} }; }; }
  `;
}

describe.skipIf(!nix.ok)(`large and long builds (${nix.ok ? nix.version : nix.reason})`, () => {
  let gradient: Gradient;
  let url: string;
  let project: string;

  beforeAll(async () => {
    gradient = await withGradient({
      GRADIENT_LOG_BURST_BYTES_PER_MIN: String(2 * LOG_BYTES),
      GRADIENT_LOG_SUSTAINED_BYTES_PER_HOUR: String(2 * LOG_BYTES),
    });
    url = await commitFlake(
      join(gradient.folder, "site"),
      { "flake.nix": flakeOf({ first: 'mk "first" "echo > $out"' }) },
      "One",
    );
    project = await addProject(gradient.api, "site", url, "packages.*");
    await evaluate({ warm: 'mk "warm" "echo > $out"' });
  }, 60_000);

  afterAll(() => gradient?.[Symbol.asyncDispose]());

  async function evaluate(packages: Readonly<Record<string, string>>) {
    await commitFlake(join(gradient.folder, "site"), { "flake.nix": flakeOf(packages) }, "Another");
    const began = performance.now();
    const id = await gradient.api.evaluate(project);
    const { status } = await gradient.api.waitForEnd(id, 300_000);
    return { id, status, tookMs: performance.now() - began };
  }

  async function peakBytes(pid: number): Promise<number> {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) * 1024;
  }

  test(`a chain of ${LINKS} builds, each of which waits for the one before, is built link by link`, async () => {
    const { id, status, tookMs } = await evaluate({ chain: `chain ${LINKS - 1}` });
    expect(status).toBe("Completed");
    const builds = (await gradient.api.builds(id)).filter(({ name }) => name.includes("-link-"));
    expect(builds.filter((build) => build.status === "Completed").length).toBe(LINKS);
    const output = await outputOf(gradient, id, `link-${LINKS - 1}`);
    const { daemon } = gradient;
    expect(await nixOutput(["nix-store", "--query", "--hash", output], daemon.env)).toMatch(/^sha256:/);
    if (process.env.GRADIENT_TEST_FIGURES) console.log(`chain: ${Math.round(tookMs / LINKS)} ms a link, all in all`);
  }, 120_000);

  test.runIf(process.env.GRADIENT_TEST_LONG)(
    "a build that logs 1 GB: memory stays bounded, and the log's beginning and end are told",
    async () => {
      const pids = [gradient.server.pid, gradient.worker.pid];
      for (const pid of pids) await writeFile(`/proc/${pid}/clear_refs`, "5");
      const before = await Promise.all(pids.map(peakBytes));
      const line = "x".repeat(99);
      const script = `yes ${line} | head -c ${LOG_BYTES}; echo > $out`;
      const { id, status, tookMs } = await evaluate({ loud: `mk "loud" "${script}"` });
      expect(status).toBe("Completed");
      const after = await Promise.all(pids.map(peakBytes));
      if (process.env.GRADIENT_TEST_FIGURES) {
        const figures = [...before, ...after].map((bytes) => Math.round(bytes / MIB));
        console.log(
          `1 GB log: ${Math.round(tookMs / 1000)} s; server and worker from ${figures.slice(0, 2)} to ${figures.slice(2)} MiB`,
        );
      }
      for (const peak of after) expect(peak).toBeLessThan(450 * MIB);
      const build = await findBuild(gradient, id, "loud");
      const response = await gradient.api.fetch("GET", `/builds/${build.id}/log?limit=10`);
      expect(response.status).toBe(200);
      await response.body?.cancel();
    },
    600_000,
  );
});
