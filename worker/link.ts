import type { ByteStream } from "#core/lib/streams.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { LockedInputField, PathInfoField } from "#core/protocol/fields.ts";
import type { BuildResult, EvaluationResult } from "#core/protocol/worker-messages.ts";

/** The attempt has ended on the server, or this worker is stopping: whoever works on it stops. */
export class AttemptEndedError extends Error {
  override readonly name = "AttemptEndedError";
}

/** The server will not take this upload, however often it is sent. */
export class UploadRefusedError extends Error {
  override readonly name = "UploadRefusedError";
}

/** No cache that the organization reads has the path. */
export class PathUnavailableError extends Error {
  override readonly name = "PathUnavailableError";
  readonly path: StorePath;

  constructor(path: StorePath, reason: string) {
    super(`${path}: ${reason}`);
    this.path = path;
  }
}

/** The evaluation cannot go on: the server could not record what it reported. */
export class BatchRefusedError extends Error {
  override readonly name = "BatchRefusedError";
  /** What the batch rested on has changed since it was asked for: a report from anew may be taken. */
  readonly isOutdated: boolean;

  constructor(message: string, { isOutdated = false }: { readonly isOutdated?: boolean } = {}) {
    super(message);
    this.isOutdated = isOutdated;
  }
}

export interface FetchedNar {
  readonly info: PathInfoField;
  readonly compression: string;
  /** Null where it is not known. */
  readonly fileSize: number | null;
  /** Goes on over sessions where the server has the same file still. When it ends with an error: fetch again. */
  readonly body: ByteStream;
}

export interface Upload {
  readonly target: "source" | "output";
  readonly info: PathInfoField;
  /** This worker's own, `name:base64`. */
  readonly signatures?: readonly string[];
  readonly compression: "none" | "zstd";
  /** The body from its beginning; called again for each try. */
  readonly open: () => ByteStream;
  /** The whole body, where it is in memory. */
  readonly whole?: Uint8Array;
}

export interface BatchNode {
  readonly drvPath: StorePath;
  readonly aterm: Uint8Array;
  readonly pruned: boolean;
  /** Under which caches know its outputs, where these have no paths of their own. */
  readonly realisationHash?: string;
}

/** Whether outputs are there, which are named by their paths or, where they have none of their own, otherwise. */
export interface DerivationQuestion {
  readonly drvPath: StorePath;
  readonly outputs: readonly StorePath[];
  readonly realisations?: readonly { readonly hash: string; readonly output: string }[];
}

export interface Batch {
  readonly nodes: readonly BatchNode[];
  readonly entryPoints: readonly { readonly attribute: readonly string[]; readonly drvPath: StorePath }[];
}

export interface EvaluationMessage {
  readonly level: "error" | "warning" | "notice";
  readonly text: string;
  readonly source: string;
  readonly attribute: readonly string[] | null;
}

/**
 * What work on one attempt may ask of the server. Each call survives the loss of a session: it waits for the next one
 * and asks again, until the attempt ends (`AttemptEndedError`).
 */
export interface AttemptLink {
  readonly attemptId: string;
  /** Aborted when the attempt has ended on the server or the worker gives it up. */
  readonly signal: AbortSignal;
  phase(phase: "fetching" | "evaluating_flake" | "evaluating_derivations" | "building", commit?: CommitInfo): void;
  /** Resolves when there is a place for the builder: what comes before needs none. Rejects with the signal's reason. */
  builderPlace(): Promise<void>;
  /** The builder has ended: what is left of the attempt needs none of the places that builds run in. */
  builderEnded(): void;
  /** Recorded in the order of the calls. */
  message(message: EvaluationMessage): void;
  /** In the order of the question: whether the evaluation need not look below. At most 1000 a call. */
  queryDerivations(derivations: readonly DerivationQuestion[]): Promise<boolean[]>;
  /**
   * Those of the paths that the server has for this organization, and those in its own stores whose names begin with
   * one of the hashes. At most 1000 of each a call.
   */
  queryCache(paths: readonly StorePath[], hashes?: readonly string[]): Promise<readonly PathInfoField[]>;
  /** Throws `PathUnavailableError`. */
  fetchNar(path: StorePath): Promise<FetchedNar>;
  /** Resolves when the path is durable and offered. Throws `UploadRefusedError`. */
  pushNar(upload: Upload): Promise<void>;
  /**
   * Pushes uploads that may refer to each other, and reports the success that rests on them; resolves when all of it is
   * recorded. `finish` has nothing to do then. Throws `UploadRefusedError` and what a body throws: then another result
   * is to be reported.
   */
  deliver(uploads: readonly Upload[], result: BuildResult): Promise<void>;
  /** Resolves when the batch is recorded. Throws `BatchRefusedError`. */
  sendBatch(batch: Batch): Promise<void>;
  /** Appends to the attempt's log. Never blocks and never throws; the log's own limits cut it. */
  log(bytes: Uint8Array): void;
  /** Ends the log and reports how the attempt ended; resolves when the server has it. Nothing may follow. */
  finish(result: BuildResult | EvaluationResult): Promise<void>;
}

export interface CommitInfo {
  readonly message: string;
  readonly author: string;
  /** What the flake's lock says. Absent where that is not known. */
  readonly inputs?: LockedInputField[];
}
