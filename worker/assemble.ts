import { join } from "node:path";
import { systemClock } from "#core/lib/clock.ts";
import { storePathName } from "#core/nix/store-path.ts";
import type { BuildJob, EvaluationJob } from "#core/protocol/server-messages.ts";
import type { BuildResult, EvaluationResult } from "#core/protocol/worker-messages.ts";
import { Agent } from "./agent.ts";
import { createBuildEnvironment } from "./build/environment.ts";
import { executeBuild } from "./build/execute.ts";
import { connectToServer } from "./connect.ts";
import { DaemonPool } from "./daemon/pool.ts";
import { EvaluatorPool } from "./evaluation/evaluator-pool.ts";
import { type EvaluationJobEnvironment, runEvaluation } from "./evaluation-job.ts";
import { uploadSources } from "./evaluation-sources.ts";
import type { AttemptLink } from "./link.ts";
import type { PreparedWorker } from "./main-prepare.ts";
import { readPeers, tokensFor } from "./peers.ts";

/** How long one attribute may take, of the time that the whole evaluation has. */
const ATTRIBUTE_TIMEOUT_MS = 10 * 60_000;
const REPOSITORY_BYTES_MAX = 4 * 2 ** 30;

export interface AssembledWorker extends AsyncDisposable {
  readonly agent: Agent;
}

/** Puts the worker together: the store's connections, the executors of both kinds of job, and the session. */
export function assembleWorker({ config, loggers, workerId, facts, evaluatorUser }: PreparedWorker): AssembledWorker {
  const pool = new DaemonPool({
    socketPath: config.daemonStore.socketPath,
    maxConnections: config.daemonConnectionsMax,
  });
  const evaluators = new EvaluatorPool({ evaluatorsMax: config.evaluatorsMax, evaluationsPerProcessMax: 20 });
  const builds = createBuildEnvironment({
    pool,
    gcRootsDir: config.gcRootsDir ?? "",
    cores: null,
    log: loggers.build,
    clock: systemClock,
  });

  const build = async (job: BuildJob, aterm: Uint8Array, link: AttemptLink): Promise<BuildResult> => {
    const { drv_path: drvPath, inputs, timeout_ms: timeoutMs, max_silent_ms: maxSilentMs } = job;
    const result = await executeBuild({ drvPath, aterm, inputs, timeoutMs, maxSilentMs }, link, builds);
    const name = storePathName(drvPath).replace(/\.drv$/, "");
    const failure = result.failure ? { class: result.failure.class, reason: result.failure.message } : {};
    loggers.build.info("build ended", { name, status: result.status, buildMs: result.build_ms, ...failure });
    return result;
  };

  const evaluate = (job: EvaluationJob, link: AttemptLink): Promise<EvaluationResult> => {
    const environment: EvaluationJobEnvironment = {
      // What one organization has fetched answers no other organization's evaluation.
      dataDir: join(config.dataDir, "evaluation", job.organization),
      nixCommand: config.nixCommand,
      gitCommand: config.gitCommand,
      variables: config.childVariables,
      nixRemote: config.nixRemote,
      storeRoot: config.daemonStore.root,
      allowLocalSources: config.allowLocalSources,
      allowImportFromDerivation: config.capabilities.build,
      extraNixOptions: [],
      evaluatorUser,
      sshKeyFile: null,
      evaluatorsMax: config.evaluatorsMax,
      evaluators,
      evaluatorMemoryBytesMax: config.evaluatorMemoryBytesMax,
      attributeTimeoutMs: ATTRIBUTE_TIMEOUT_MS,
      repositoryBytesMax: REPOSITORY_BYTES_MAX,
      log: loggers.eval,
      uploadSources: (paths, upload) => uploadSources(pool, paths, upload),
    };
    return runEvaluation(job, link, environment);
  };

  const agent = new Agent({
    workerId,
    capabilities: config.capabilities,
    facts,
    dataDir: config.dataDir,
    connect: (signal) => connectToServer(config.serverUrl, signal),
    tokensFor: async (challenged) => {
      const peers = await readPeers(config.peers);
      for (const problem of peers.problems) loggers.proto.warn(problem);
      return tokensFor(peers, challenged);
    },
    build,
    evaluate,
    clock: systemClock,
    log: loggers.proto,
  });
  return {
    agent,
    async [Symbol.asyncDispose]() {
      await evaluators.close();
      await pool.close({ abandon: true });
    },
  };
}
