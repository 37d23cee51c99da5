import { access } from "node:fs/promises";
import { AttributePatternError, type AttributePatterns, parseAttributePatterns } from "#core/nix/attribute-pattern.ts";
import { parseStorePath, type StorePath } from "#core/nix/store-path.ts";
import { withAdvice } from "./advice.ts";
import { tooLongName } from "./attribute-length.ts";
import type { AttributePath } from "./attribute-order.ts";
import { type GraphBatch, GraphBatches } from "./batches.ts";
import { type BroughtFlake, bringFlake, type FetchJob, type FetchSink } from "./bring-flake.ts";
import { DerivationFiles } from "./derivation-files.ts";
import { type AttributeError, type Candidate, discover, nothingMatched } from "./discover.ts";
import type { EvaluationEnvironment } from "./environment.ts";
import { EvaluationError, throwIfAborted, timedOut } from "./errors.ts";
import { evaluateJobs, type FoundDerivation } from "./eval-jobs.ts";
import type { ReadablePlaces } from "./evaluator-setup.ts";
import type { EvaluatorMessage } from "./evaluator-stderr.ts";
import type { FlakeSource } from "./expressions.ts";
import { type InstantiatedGroup, instantiate } from "./instantiate.ts";
import { MessageFilter } from "./messages.ts";
import { NixEvaluator } from "./nix-eval.ts";
import { type StoredSource, storedReferences, storeSource } from "./stored-source.ts";
import { type AskKnown, DerivationWalk } from "./walk.ts";
import { walkAttributes } from "./walk-attributes.ts";

export interface EvaluationJob extends FetchJob {
  /** The text of the attribute patterns. */
  readonly wildcard: string;
  /** Where the flake was brought by somebody else. Null: it is fetched from the repository. */
  readonly stored: StoredSource | null;
  readonly maxAttributes: number;
  readonly maxDerivations: number;
  /** Warnings and notices; errors are always told. */
  readonly maxMessages: number;
}

/** Where results go. Everything but phases and messages sets the pace: the evaluation waits for it. */
export interface EvaluationSink extends FetchSink {
  readonly known: AskKnown;
  sources(paths: readonly StorePath[]): Promise<void>;
  batch(batch: GraphBatch): Promise<void>;
}

export type EvaluationOutcome =
  /** The last batch went out. Single attributes may have failed: each was an error message. */
  | { readonly outcome: "completed" }
  /** What was sent before stands; no last batch went out. */
  | { readonly outcome: "failed"; readonly message: string };

/** The largest `.drv` that travels. Those of nixpkgs stay below a few hundred kilobytes. */
const DERIVATION_BYTES_MAX = 16 * 1024 * 1024;

export type FetchOutcome =
  | { readonly outcome: "completed"; readonly stored: StoredSource }
  | { readonly outcome: "failed"; readonly message: string };

/**
 * From a commit to a stream of derivations, dependencies first. It rejects only for what a sink threw or for our own
 * mistakes; what is wrong with the job, the flake or the machine is an outcome. An abort is one too.
 */
export async function evaluate(
  job: EvaluationJob,
  environment: EvaluationEnvironment,
  sink: EvaluationSink,
): Promise<EvaluationOutcome> {
  return await outcomeOf(job, environment, async () => {
    const patterns = parseAttributePatterns(job.wildcard);
    await new Evaluation(job, environment, sink, patterns).run();
    return { outcome: "completed" };
  });
}

/** From a commit to a flake in the store, for somebody else to evaluate. It rejects for our own mistakes only. */
export async function fetchFlake(
  job: FetchJob,
  environment: EvaluationEnvironment,
  sink: FetchSink,
): Promise<FetchOutcome> {
  return await outcomeOf(job, environment, async () => {
    const deadline = performance.now() + job.timeoutMs;
    const { flake, folder } = await bringFlake(job, environment, sink, deadline);
    const warn = (text: string) => sink.message({ level: "warning", text, source: "fetch", attribute: null });
    const readable = { folder, references: await storedReferences(flake, environment.storeRoot) };
    const stored = await storeSource(flake, { environment, readable, deadline, warn });
    return { outcome: "completed", stored };
  });
}

async function outcomeOf<T>(
  { commit }: FetchJob,
  environment: EvaluationEnvironment,
  work: () => Promise<T>,
): Promise<T | { readonly outcome: "failed"; readonly message: string }> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof EvaluationError || error instanceof AttributePatternError) {
      environment.log.info("evaluation failed", { commit, error: error.message });
      return { outcome: "failed", message: error.message };
    }
    throw error;
  }
}

class Evaluation {
  readonly #job: EvaluationJob;
  readonly #environment: EvaluationEnvironment;
  readonly #sink: EvaluationSink;
  readonly #patterns: AttributePatterns;
  readonly #messages: MessageFilter;
  readonly #deadline: number;

  constructor(
    job: EvaluationJob,
    environment: EvaluationEnvironment,
    sink: EvaluationSink,
    patterns: AttributePatterns,
  ) {
    this.#job = job;
    this.#environment = environment;
    this.#sink = sink;
    this.#patterns = patterns;
    this.#messages = new MessageFilter((message) => sink.message(message), job.maxMessages);
    this.#deadline = performance.now() + job.timeoutMs;
  }

  async run(): Promise<void> {
    const { stored } = this.#job;
    if (stored === null) {
      await this.#evaluate(await bringFlake(this.#job, this.#environment, this.#sink, this.#deadline));
    } else {
      await this.#sink.takeStored(stored.paths);
      await this.#evaluate({ flake: stored, folder: this.#environment.dataDir });
    }
  }

  async #evaluate({ flake, folder }: BroughtFlake): Promise<void> {
    this.#sink.phase("evaluating_flake");
    const readable = { folder, references: await storedReferences(flake, this.#environment.storeRoot) };
    using evaluator = new NixEvaluator(this.#environment, readable, flake);
    const common = {
      attributesMax: this.#job.maxAttributes,
      deadline: this.#deadline,
      onMessage: (message: EvaluatorMessage, attribute: AttributePath | null) =>
        this.#messages.add({ ...message, source: "evaluation", attribute }),
    };
    const discovery = await discover(evaluator, { ...common, patterns: this.#patterns });
    this.#report(discovery.errors);

    this.#sink.phase("evaluating_derivations");
    const { storeRoot, evaluatorsMax } = this.#environment;
    const files = new DerivationFiles(storeRoot, DERIVATION_BYTES_MAX);
    const limits = { derivationsMax: this.#job.maxDerivations, check: () => this.#check() };
    const walk = new DerivationWalk({ files, known: (questions) => this.#sink.known(questions), ...limits });
    const batches = new GraphBatches(this.#sink);
    let count = discovery.errors.length;
    const take = async (group: InstantiatedGroup) => {
      count += group.found.length + group.errors.length;
      this.#report(group.errors);
      const named = this.#withoutLongNames(group.found);
      const { found, errors } = await walkAttributes(walk, named, (node) => batches.add(node));
      this.#report(errors);
      batches.addEntryPoints(found);
      await batches.flush();
    };
    const answered: AttributePath[] = [];
    const takeJobs = async (found: InstantiatedGroup["found"]) => {
      answered.push(...found.map(({ attribute }) => attribute));
      await take({ found, errors: [] });
    };
    const candidates = await this.#evaluateJobs(discovery.candidates, { flake, readable }, takeJobs);
    const options = { ...common, excludes: this.#patterns.excludes, answered, storeRoot, evaluatorsMax };
    for await (const group of instantiate(evaluator, candidates, options)) await take(group);
    if (count === 0) this.#reportNothing(discovery.outputs);
    await this.#keepImported(evaluator, files);
    await batches.finish();
  }

  /** What nix-eval-jobs can do of it, where the worker has it. Answers what is left. */
  async #evaluateJobs(
    candidates: readonly Candidate[],
    { flake, readable }: { readonly flake: FlakeSource; readonly readable: ReadablePlaces },
    take: (found: readonly FoundDerivation[]) => Promise<void>,
  ): Promise<readonly Candidate[]> {
    const { evalJobsCommand: command, evaluators } = this.#environment;
    if (command === null || candidates.length === 0) return candidates;
    const onMessage = (message: EvaluatorMessage) =>
      this.#messages.add({ ...message, source: "evaluation", attribute: null });
    const common = { environment: this.#environment, readable, flake, deadline: this.#deadline };
    return await evaluators.withPlace(async () => {
      const jobs = evaluateJobs(candidates, { ...common, command, onMessage });
      for (;;) {
        const { done, value } = await jobs.next();
        if (done) return value;
        await take(value);
      }
    });
  }

  /** What was built to be imported goes to the other workers of the organization: the next evaluation finds it. */
  async #keepImported(evaluator: NixEvaluator, files: DerivationFiles): Promise<void> {
    const outputs = new Set<StorePath>();
    for (const drvPath of evaluator.takeImported()) {
      for (const { path } of (await files.read(drvPath)).derivation.outputs.values()) {
        const output = parseStorePath(path);
        if (output !== null && (await this.#isThere(output))) outputs.add(output);
      }
    }
    if (outputs.size > 0) await this.#sink.sources([...outputs].sort());
  }

  async #isThere(path: StorePath): Promise<boolean> {
    return await access(`${this.#environment.storeRoot}${path}`).then(
      () => true,
      () => false,
    );
  }

  #check(): void {
    throwIfAborted(this.#environment.signal);
    if (performance.now() > this.#deadline) throw timedOut();
  }

  /** The server takes a batch whole or not at all. */
  #withoutLongNames(found: InstantiatedGroup["found"]): InstantiatedGroup["found"] {
    return found.filter(({ attribute }) => {
      const text = tooLongName(attribute);
      if (text !== null) this.#messages.add({ level: "error", text, source: "evaluation", attribute: null });
      return text === null;
    });
  }

  #report(errors: readonly AttributeError[]): void {
    for (const { attribute, error } of errors) {
      this.#messages.add({ level: "error", text: withAdvice(error), source: "evaluation", attribute });
    }
  }

  #reportNothing(outputs: readonly string[]): void {
    const text = nothingMatched(this.#job.wildcard, outputs);
    this.#messages.add({ level: "error", text, source: "evaluation", attribute: null });
  }
}
