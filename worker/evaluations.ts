import { join } from "node:path";
import { defaultDaemonOptions } from "#core/nix/daemon/options.ts";
import type { EvaluationJob } from "#core/protocol/server-messages.ts";
import type { EvaluationResult } from "#core/protocol/worker-messages.ts";
import { ensureInputs } from "./build/inputs.ts";
import { EvaluatorPool } from "./evaluation/evaluator-pool.ts";
import { SshAgents } from "./evaluation/ssh-agent.ts";
import { type EvaluationJobEnvironment, runEvaluation } from "./evaluation-job.ts";
import { uploadSources } from "./evaluation-sources.ts";
import { LeftEvaluators } from "./left-evaluators.ts";
import type { AttemptLink } from "./link.ts";
import type { PreparedWorker } from "./main-prepare.ts";
import type { WorkStore } from "./store/organization-stores.ts";

/** The evaluations of a worker: what they share, and where each organization's are kept apart. */
export class Evaluations implements AsyncDisposable {
  readonly #prepared: PreparedWorker;
  readonly #evaluators: EvaluatorPool;
  readonly #agents = new SshAgents();

  constructor(prepared: PreparedWorker) {
    this.#prepared = prepared;
    const { config, loggers } = prepared;
    const left = new LeftEvaluators(config.dataDir);
    this.#evaluators = new EvaluatorPool({
      evaluatorsMax: config.evaluatorsMax,
      evaluationsPerProcessMax: config.evaluationsPerEvaluatorMax,
      onStarted: (pid) => left.note(pid),
      onEnded: (pid) => {
        left.forget(pid).catch((error: unknown) => loggers.eval.warn("an evaluator's note stays", { error }));
      },
    });
  }

  /** Every way to fail is a result; throws `AttemptEndedError` when the attempt has ended meanwhile. */
  async run(store: WorkStore, job: EvaluationJob, link: AttemptLink): Promise<EvaluationResult> {
    return await runEvaluation(job, link, this.#environmentFor(store, job, link));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#evaluators.close();
  }

  #environmentFor(store: WorkStore, job: EvaluationJob, link: AttemptLink): EvaluationJobEnvironment {
    const { config, loggers, evaluatorUser } = this.#prepared;
    return {
      // What one organization has fetched answers no other organization's evaluation.
      dataDir: join(config.dataDir, "evaluation", job.organization),
      nixCommand: config.nixCommand,
      gitCommand: config.gitCommand,
      variables: config.childVariables,
      nixRemote: store.nixRemote,
      storeRoot: store.daemonStore.root,
      allowLocalSources: config.allowLocalSources,
      allowImportFromDerivation: config.capabilities.build,
      extraNixOptions: [],
      evaluatorUser,
      sshProgram: config.sshCommand,
      sshAgentSocket: null,
      sshKnownHostsFile: config.sshKnownHostsFile,
      evaluatorsMax: config.evaluatorsMax,
      evaluators: this.#evaluators,
      evaluatorMemoryBytesMax: config.evaluatorMemoryBytesMax,
      attributeTimeoutMs: config.attributeTimeoutMs,
      repositoryBytesMax: config.repositoryBytesMax,
      log: loggers.eval,
      uploadSources: (paths) => uploadSources(store.pool, paths, link),
      takeSources: async (paths) => {
        const settings = defaultDaemonOptions;
        const deps = { pool: store.pool, settings, clock: store.builds.clock, fetches: store.builds.fetches };
        const take = { signal: link.signal, settings };
        await store.pool.use(async (connection) => {
          await ensureInputs(connection, { inputs: paths, outputs: [] }, link, deps);
        }, take);
      },
      holdKey: (secretKey) => this.#agents.hold(secretKey, { variables: config.childVariables, user: evaluatorUser }),
    };
  }
}
