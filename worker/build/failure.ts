import type { StorePath } from "#core/nix/store-path.ts";
import { QUERY_PATHS_MAX } from "#core/protocol/limits.ts";
import type { BuildMetrics, BuildResult, FailureClass } from "#core/protocol/worker-messages.ts";

const MESSAGE_CHARACTERS_MAX = 8192;

/** The attempt has failed, and this is why. The message is for the person who looks at the red build. */
export class BuildFailure extends Error {
  override readonly name = "BuildFailure";
  readonly failureClass: FailureClass;
  /** Inputs that nobody could deliver. */
  readonly missing: readonly StorePath[];

  constructor(failureClass: FailureClass, message: string, options: ErrorOptions & { missing?: StorePath[] } = {}) {
    super(message, options);
    this.failureClass = failureClass;
    this.missing = options.missing ?? [];
  }
}

export function failedResult(failure: BuildFailure, buildMs: number, metrics: BuildMetrics | null): BuildResult {
  const { failureClass, message, missing } = failure;
  return {
    kind: "build",
    status: "failed",
    outputs: [],
    failure: {
      class: failureClass,
      message: message.length > MESSAGE_CHARACTERS_MAX ? `${message.slice(0, MESSAGE_CHARACTERS_MAX - 2)} …` : message,
      missing: missing.slice(0, QUERY_PATHS_MAX),
    },
    build_ms: buildMs,
    ...(metrics && { metrics }),
  };
}
