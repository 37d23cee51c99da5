import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EvaluatorPool, type EvaluatorPoolOptions } from "#worker/evaluation/evaluator-pool.ts";
import { type NixDaemon, nixAvailable, withNixDaemon } from "../support/nix.ts";
import { commitFiles, evaluateRepository, flakeOf, makeRepository, type TestRepository } from "./evaluation-setup.ts";

const nix = nixAvailable();

describe.skipIf(!nix.ok)("evaluators that are kept", () => {
  let daemon: NixDaemon;
  let repository: TestRepository;
  beforeAll(async () => {
    daemon = await withNixDaemon();
    repository = await makeRepository(daemon, { "flake.nix": packageOf("first") });
  });
  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  function packageOf(name: string): string {
    return flakeOf(`{ packages.a = mk "${name}" "" {}; }`);
  }

  /** A pool that notes which processes it started. */
  function watchedPool(options: Partial<EvaluatorPoolOptions>): {
    pool: EvaluatorPool;
    pids: number[];
    ended: number[];
  } {
    const pids: number[] = [];
    const ended: number[] = [];
    const pool = new EvaluatorPool({
      evaluatorsMax: 1,
      evaluationsPerProcessMax: 20,
      onStarted: async (pid) => void pids.push(pid),
      onEnded: (pid) => void ended.push(pid),
      ...options,
    });
    return { pool, pids, ended };
  }

  async function evaluateWith(pool: EvaluatorPool, commit = repository.commit): Promise<string | undefined> {
    const job = { wildcard: "packages.a" };
    const record = await evaluateRepository(
      daemon,
      { ...repository, commit },
      { job, environment: { evaluators: pool } },
    );
    expect(record.outcome).toEqual({ outcome: "completed" });
    return record.entryPoints["packages/a"];
  }

  test("an evaluation of another commit in a process that was kept sees that commit alone", async () => {
    const { pool } = watchedPool({});
    const commit = await commitFiles(repository.folder, { "flake.nix": packageOf("second") }, "2");

    expect(await evaluateWith(pool)).toMatch(/-first\.drv$/);
    expect(await evaluateWith(pool, commit)).toMatch(/-second\.drv$/);
    expect(await evaluateWith(pool)).toMatch(/-first\.drv$/);
    await pool.close();
  });

  test("GRADIENT_MAX_EVALUATIONS_PER_WORKER: a process serves as many as it may and not one more", async () => {
    const { pool, pids } = watchedPool({ evaluationsPerProcessMax: 2 });
    const isInterpreter = await servesSeveral();
    for (let i = 0; i < 4; i++) {
      await evaluateWith(pool);
      await settled(pool);
    }
    // A process that serves one evaluation anyway has its successor prepared.
    expect(pids.length).toBe(isInterpreter ? 2 : 6);
    await pool.close();
  });

  test("no process is left when the pool is closed, whether it waited or was at work", async () => {
    const { pool, pids, ended } = watchedPool({});
    await evaluateWith(pool);
    await pool.close();

    expect(ended.toSorted()).toEqual(pids.toSorted());
    for (const pid of pids) await expect(readFile(`/proc/${pid}/stat`)).rejects.toThrow("ENOENT");
  });

  test("a process that grew too large is not kept", async () => {
    const { pool, pids, ended } = watchedPool({ idleBytesMax: 1 });
    await evaluateWith(pool);
    await settled(pool);

    if (await servesSeveral()) expect(ended).toEqual(pids);
    await pool.close();
  });

  test("a process that died while it waited is noticed before it is used", async () => {
    const { pool, pids } = watchedPool({});
    await evaluateWith(pool);
    await settled(pool);
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It had ended by itself.
      }
    }
    expect(await evaluateWith(pool)).toMatch(/-first\.drv$/);
    await pool.close();
  });

  /** Whether this Nix has an interpreter that evaluates purely. */
  async function servesSeveral(): Promise<boolean> {
    const { pool, pids } = watchedPool({ evaluationsPerProcessMax: 0 });
    await evaluateWith(pool);
    await settled(pool);
    const before = pids.length;
    await evaluateWith(pool);
    await settled(pool);
    await pool.close();
    return pids.length === before;
  }
});

/** Giving a process back is nothing that an evaluation waits for. */
async function settled(pool: EvaluatorPool): Promise<void> {
  await pool.settled();
}
