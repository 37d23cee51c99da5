import type { StorePath } from "#core/nix/store-path.ts";
import type { LockedInputField } from "#core/protocol/fields.ts";
import type { EvaluationEnvironment } from "./environment.ts";
import type { FlakeSource } from "./expressions.ts";
import { type CommitInfo, fetchSource, tidyRepository } from "./fetch.ts";
import { type InputOverride, overrideInputs } from "./input-overrides.ts";
import { lockedInputs } from "./locked-inputs.ts";
import type { EvaluationMessage } from "./messages.ts";
import { bringRelativeInputs } from "./relative-inputs.ts";
import { sentSourceOf, type TakenSource, takeSentSource } from "./sent-source.ts";

/** What brings a flake into the store and evaluates nothing. */
export interface FetchJob {
  readonly repository: string;
  readonly commit: string;
  /** Inputs that are not to be what the flake's lock says. */
  readonly overrides: readonly InputOverride[];
  /** For the whole, what comes after the fetch included. */
  readonly timeoutMs: number;
}

export type EvaluationPhase = "fetching" | "evaluating_flake" | "evaluating_derivations";

/** What a fetch tells and asks for. */
export interface FetchSink {
  phase(phase: EvaluationPhase): void;
  /** `inputs`: what the flake's lock says; null where it cannot be read. */
  commitInfo(info: CommitInfo, inputs: LockedInputField[] | null): void;
  message(message: EvaluationMessage): void;
  /** Makes the paths valid in the store. */
  takeStored(paths: readonly StorePath[]): Promise<void>;
}

export interface BroughtFlake {
  readonly flake: FlakeSource;
  /** The repository. */
  readonly folder: string;
}

/** From a repository or from a source that was sent, with other inputs where these are wanted. */
export async function bringFlake(
  job: FetchJob,
  environment: EvaluationEnvironment,
  sink: FetchSink,
  deadline: number,
): Promise<BroughtFlake> {
  sink.phase("fetching");
  const source = await bringSource(job, environment, sink, deadline);
  const { flakeReference, folder } = source;
  await bringRelativeInputs(source, environment, deadline);
  if (job.overrides.length === 0) return { flake: { flakeReference, isWrapped: false }, folder };
  const warn = (text: string) => sink.message({ level: "warning", text, source: "fetch", attribute: null });
  return { flake: await overrideInputs(source, job.overrides, { environment, deadline, warn }), folder };
}

async function bringSource(
  job: FetchJob,
  environment: EvaluationEnvironment,
  sink: FetchSink,
  deadline: number,
): Promise<TakenSource> {
  const sent = sentSourceOf(job);
  if (sent !== null) {
    await sink.takeStored([sent.path]);
    return await takeSentSource(sent, environment, deadline);
  }
  const source = await fetchSource(job, environment, job.timeoutMs);
  void tidyRepository(source.folder, environment);
  sink.commitInfo(source.commitInfo, lockedInputs(source.lock));
  return source;
}
