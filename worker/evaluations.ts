import { join } from "node:path";
import { DAY } from "#core/lib/clock.ts";
import { defaultDaemonOptions } from "#core/nix/daemon/options.ts";
import type { EvaluationJob } from "#core/protocol/server-messages.ts";
import type { EvaluationResult } from "#core/protocol/worker-messages.ts";
import { ensureInputs } from "./build/inputs.ts";
import { EvaluatorPool } from "./evaluation/evaluator-pool.ts";
import { repositoryLocks } from "./evaluation/fetch.ts";
import { LocalSubstituter, type SubstituterSource } from "./evaluation/local-substituter.ts";
import { SshAgents } from "./evaluation/ssh-agent.ts";
import { removeUnusedRepositories } from "./evaluation/unused-repositories.ts";
import { type EvaluationJobEnvironment, runEvaluation } from "./evaluation-job.ts";
import { uploadSources } from "./evaluation-sources.ts";
import { markVariables, socketFolderPrefix, workerMark } from "./left-processes.ts";
import type { AttemptLink } from "./link.ts";
import type { PreparedWorker } from "./main-prepare.ts";
import { EVALUATION_FOLDER, type OrganizationPlace, type OrganizationPlaces } from "./organization-places.ts";
import { checkedNar } from "./store/checked-nar.ts";
import type { WorkStore } from "./store/organization-stores.ts";

/** The evaluations of a worker: what they share, and where each organization's are kept apart. */
export class Evaluations implements AsyncDisposable {
  readonly #prepared: PreparedWorker;
  readonly #places: OrganizationPlaces;
  readonly #evaluators: EvaluatorPool;
  readonly #agents: SshAgents;
  readonly #substituter: LocalSubstituter;

  readonly #tidying: NodeJS.Timeout;

  constructor(prepared: PreparedWorker, places: OrganizationPlaces) {
    this.#prepared = prepared;
    this.#places = places;
    const { config, loggers } = prepared;
    this.#substituter = new LocalSubstituter(loggers.eval);
    this.#tidying = setInterval(() => void this.#tidy(), DAY).unref();
    void this.#tidy();
    this.#agents = new SshAgents(socketFolderPrefix(workerMark(config.dataDir)));
    this.#evaluators = new EvaluatorPool({
      evaluatorsMax: config.evaluatorsMax,
      evaluationsPerProcessMax: config.evaluationsPerEvaluatorMax,
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
    const place = await this.#places.of(job.organization);
    return await runEvaluation(job, link, { ...this.#environmentFor(store, place, link), substituterUrl });
  }

  /** Repositories that nobody asks for any more. */
  async #tidy(): Promise<void> {
    const { config, loggers } = this.#prepared;
    const removed = await removeUnusedRepositories(join(config.dataDir, EVALUATION_FOLDER), repositoryLocks);
    if (removed > 0) loggers.eval.info("repositories were removed that were not used for 30 days", { removed });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#tidying);
    await this.#evaluators.close();
    await this.#substituter[Symbol.asyncDispose]();
  }

  #environmentFor(
    store: WorkStore,
    place: OrganizationPlace,
    link: AttemptLink,
  ): Omit<EvaluationJobEnvironment, "substituterUrl"> {
    const { config, loggers } = this.#prepared;
    const variables = { ...config.childVariables, ...markVariables(config.dataDir) };
    return {
      // What one organization has fetched answers no other organization's evaluation.
      dataDir: place.folder,
      nixCommand: config.nixCommand,
      gitCommand: config.gitCommand,
      evalJobsCommand: config.evalJobsCommand,
      variables,
      nixRemote: store.nixRemote,
      storeRoot: store.daemonStore.root,
      allowLocalSources: config.allowLocalSources,
      allowImportFromDerivation: config.capabilities.build,
      evaluatorUser: place.user,
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
      holdKey: (secretKey) => this.#agents.hold(secretKey, { variables, user: place.user }),
    };
  }
}

function sourceOf(link: AttemptLink): SubstituterSource {
  return {
    find: async (hash) => (await link.queryCache([], [hash]))[0] ?? null,
    open: async (path) => checkedNar(await link.fetchNar(path)),
  };
}
