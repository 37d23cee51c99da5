import type { ConfigReader } from "./config-reader.ts";

/** How evaluations run. Sizes are bytes, times milliseconds. */
export interface EvaluationSettings {
  readonly evaluationsMax: number;
  /** Evaluator processes at a time, of all evaluations together. */
  readonly evaluatorsMax: number;
  /** After so many evaluations an evaluator is replaced. 0: never. */
  readonly evaluationsPerEvaluatorMax: number;
  /** Resident memory of one evaluator. Null: no limit. */
  readonly evaluatorMemoryBytesMax: number | null;
  /** How long one attribute may take. */
  readonly attributeTimeoutMs: number;
  readonly repositoryBytesMax: number;
  /** nix-eval-jobs. Null: the stock Nix evaluates. */
  readonly evalJobsCommand: string | null;
  readonly sshCommand: string;
  /** The keys of ssh servers. Null: they are learned at the first connection. */
  readonly sshKnownHostsFile: string | null;
}

const GIB = 2 ** 30;
const DAY_SECONDS = 86_400;

export function readEvaluationSettings(reader: ConfigReader): EvaluationSettings {
  const memory = reader.integer("GRADIENT_MAX_EVAL_RSS", 8 * GIB, { min: 0, max: 2 ** 50 });
  return {
    evaluationsMax: reader.integer("GRADIENT_MAX_CONCURRENT_EVALUATIONS", 1, { min: 1, max: 1_000 }),
    evaluatorsMax: reader.integer("GRADIENT_WORKER_EVAL_WORKERS", 1, { min: 1, max: 256 }),
    evaluationsPerEvaluatorMax: reader.integer("GRADIENT_MAX_EVALUATIONS_PER_WORKER", 20, { min: 0, max: 1_000_000 }),
    evaluatorMemoryBytesMax: memory === 0 ? null : memory,
    attributeTimeoutMs:
      reader.integer("GRADIENT_WORKER_EVAL_ATTRIBUTE_TIMEOUT_SECS", 600, { min: 1, max: DAY_SECONDS }) * 1_000,
    repositoryBytesMax: reader.integer("GRADIENT_WORKER_MAX_REPOSITORY_BYTES", 4 * GIB, { min: 1_024, max: 2 ** 50 }),
    evalJobsCommand: reader.text("GRADIENT_BINPATH_NIX_EVAL_JOBS"),
    sshCommand: reader.text("GRADIENT_BINPATH_SSH") ?? "ssh",
    sshKnownHostsFile: reader.absolutePath("GRADIENT_WORKER_SSH_KNOWN_HOSTS_FILE", "") || null,
  };
}
