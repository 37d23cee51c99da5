import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type NixDaemon, nixAvailable, withNixDaemon } from "../support/nix.ts";
import { pathWithNix } from "../support/nix-path.ts";
import { recordingLogger } from "../support/recording-logger.ts";
import {
  environmentFor,
  evaluateRepository,
  flakeOf,
  makeRepository,
  type TestRepository,
} from "./evaluation-setup.ts";

const nix = nixAvailable();
const FLAKE = flakeOf(`{ packages.\${system} = {
  a = mk "a" "" {}; "b.c" = mk "b" "" {}; broken = throw "not this one"; nested.inner = mk "inner" "" {}; number = 7;
  z = builtins.trace "warning: z is old" (mk "z" "" {});
}; }`);

/** Our stand-in prints what the real one does; the real one has not been run: no package of it could be had. */
describe.skipIf(!nix.ok)("evaluation by nix-eval-jobs", () => {
  let daemon: NixDaemon;
  let repository: TestRepository;
  let command: string;
  beforeAll(async () => {
    daemon = await withNixDaemon();
    repository = await makeRepository(daemon, { "flake.nix": FLAKE });
    command = join(daemon.folder, "nix-eval-jobs");
    const script = new URL("../support/fake-nix-eval-jobs.ts", import.meta.url).pathname;
    await writeFile(command, `#!/bin/sh\nexec "${process.execPath}" "${script}" "$@"\n`);
    await chmod(command, 0o755);
    await mkdir(join(daemon.folder, "fake-crash"));
  });
  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  async function run(evalJobsCommand: string | null, path = pathWithNix()) {
    const variables = { ...environmentFor(daemon).variables, PATH: path };
    const log = recordingLogger();
    const environment = { evalJobsCommand, variables, log };
    const job = { wildcard: "packages.x86_64-linux.*,packages.x86_64-linux.nosuch,!packages.x86_64-linux.number" };
    return { log, record: await evaluateRepository(daemon, repository, { job, environment }) };
  }

  test("derivations, errors and what is missing are the same as by the stock Nix", async () => {
    const { record: stock } = await run(null);
    const { record: jobs } = await run(command);

    expect(jobs.outcome).toEqual(stock.outcome);
    expect(Object.keys(stock.entryPoints)).toHaveLength(4);
    expect(jobs.entryPoints).toEqual(stock.entryPoints);
    expect(jobs.errors).toEqual(stock.errors);
  });

  test("when it breaks off, the stock Nix does the rest", async () => {
    const { record: stock } = await run(null);
    const { record: jobs, log } = await run(command, `${pathWithNix()}:${join(daemon.folder, "fake-crash")}`);

    expect(jobs.entryPoints).toEqual(stock.entryPoints);
    expect(jobs.errors).toEqual(stock.errors);
    expect(JSON.stringify(log.lines)).toContain("killed by SIGKILL");
  });

  test("a program that is not there is a failure that says which option names it", async () => {
    const { record } = await run("/nowhere/nix-eval-jobs");
    expect(record.outcome).toMatchObject({
      outcome: "failed",
      message: expect.stringContaining("GRADIENT_BINPATH_NIX_EVAL_JOBS"),
    });
  });
});
