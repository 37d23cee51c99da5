import type { Logger } from "#core/ports/logger.ts";
import type { EvaluatorPool } from "./evaluator-pool.ts";
import type { ProcessUser } from "./process.ts";

/** What evaluations of one trust domain share: an organization's, or those of a worker that serves a single one. */
export interface EvaluationEnvironment {
  /**
   * Holds the repositories and the evaluator's home, whose caches of fetched inputs answer without asking again:
   * two organizations that may not read each other's repositories need two folders.
   */
  readonly dataDir: string;
  /** Nix 2.8 or later. */
  readonly nixCommand: string;
  readonly gitCommand: string;
  /** nix-eval-jobs, to evaluate by it where it can. Null: the stock Nix does all of it. */
  readonly evalJobsCommand: string | null;
  /** The whole inherited environment of child processes: PATH, and where needed certificates and proxies. */
  readonly variables: Readonly<Record<string, string>>;
  /** The value of NIX_REMOTE for the evaluator. */
  readonly nixRemote: string;
  /** Prefix of the store's files: `${storeRoot}/nix/store/...`. Empty for the machine's own store. */
  readonly storeRoot: string;
  /** Whether repositories and flake inputs on this machine may be read: `file:`, `path:` and `git+file:`. */
  readonly allowLocalSources: boolean;
  readonly allowImportFromDerivation: boolean;
  /** A store with what the organization's caches have, for imports from derivations. Null: there is none. */
  readonly substituterUrl: string | null;
  /**
   * The user the evaluator runs as; it must be able to reach `dataDir`, the store and the daemon's socket, and should
   * be able to read nothing else of the worker's. Null: the worker's own user.
   */
  readonly evaluatorUser: ProcessUser | null;
  readonly sshProgram: string;
  /** An agent with the key for repositories and inputs over ssh. Null: there is none, and no other is tried. */
  readonly sshAgentSocket: string | null;
  /** The keys of ssh servers, as the operator lists them. Null: they are learned. */
  readonly sshKnownHostsFile: string | null;
  /** Evaluators of one evaluation at a time. */
  readonly evaluatorsMax: number;
  /** The evaluators of all evaluations of this worker. */
  readonly evaluators: EvaluatorPool;
  /** Resident memory of one evaluator; beyond it the attribute at work fails. Null: no limit. */
  readonly evaluatorMemoryBytesMax: number | null;
  /** How long one attribute may take. */
  readonly attributeTimeoutMs: number;
  readonly repositoryBytesMax: number;
  readonly signal: AbortSignal;
  readonly log: Logger;
}
