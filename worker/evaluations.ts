import { join } from "node:path";
import { defaultDaemonOptions } from "#core/nix/daemon/options.ts";
import type { EvaluationJob } from "#core/protocol/server-messages.ts";
import type { EvaluationResult } from "#core/protocol/worker-messages.ts";
import { ensureInputs } from "./build/inputs.ts";
import { EvaluatorPool } from "./evaluation/evaluator-pool.ts";
import { LocalSubstituter, type SubstituterSource } from "./evaluation/local-substituter.ts";
import { SshAgents } from "./evaluation/ssh-agent.ts";
import { type EvaluationJobEnvironment, runEvaluation } from "./evaluation-job.ts";
import { uploadSources } from "./evaluation-sources.ts";
import { LeftEvaluators } from "./left-evaluators.ts";
import type { AttemptLink } from "./link.ts";
import type { PreparedWorker } from "./main-prepare.ts";
import { checkedNar } from "./store/checked-nar.ts";
import type { WorkStore } from "./store/organization-stores.ts";

/** The evaluations of a worker: what they share, and where each organization's are kept apart. */
export class Evaluations implements AsyncDisposable {
  readonly #prepared: PreparedWorker;
  readonly #evaluators: EvaluatorPool;
  readonly #agents = new SshAgents();
  readonly #substituter: LocalSubstituter;

  constructor(prepared: PreparedWorker) {
    this.#prepared = prepared;
    const { config, loggers } = prepared;
    this.#substituter = new LocalSubstituter(loggers.eval);
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
    const { build } = this.#prepared.config.capabilities;
    // Only who builds imports from derivations, and a fetch evaluates nothing.
    if (!build || job.part === "fetch") return await this.#run(store, job, link, null);
    using substituter = await this.#substituter.open(job.organization, sourceOf(link));
    return await this.#run(store, job, link, substituter.url);
  }

  async #run(
    store: WorkStore,
    job: EvaluationJob,
    link: AttemptLink,
    substituterUrl: string | null,
  ): Promise<EvaluationResult> {
    return await runEvaluation(job, link, { ...this.#environmentFor(store, job, link), substituterUrl });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#evaluators.close();
    await this.#substituter[Symbol.asyncDispose]();
  }

  #environmentFor(
    store: WorkStore,
    job: EvaluationJob,
    link: AttemptLink,
  ): Omit<EvaluationJobEnvironment, "substituterUrl"> {
    const { config, loggers, evaluatorUser } = this.#prepared;
    return {
      // What one organization has fetched answers no other organization's evaluation.
      dataDir: join(config.dataDir, "evaluation", job.organization),
      nixCommand: config.nixCommand,
      gitCommand: config.gitCommand,
      evalJobsCommand: config.evalJobsCommand,
      variables: config.childVariables,
      nixRemote: store.nixRemote,
      storeRoot: store.daemonStore.root,
      allowLocalSources: config.allowLocalSources,
      allowImportFromDerivation: config.capabilities.build,
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

function sourceOf(link: AttemptLink): SubstituterSource {
  return {
    find: async (hash) => (await link.queryCache([], [hash]))[0] ?? null,
    open: async (path) => checkedNar(await link.fetchNar(path)),
  };
}
