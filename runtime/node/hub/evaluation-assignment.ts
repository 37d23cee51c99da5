import { isSshInput } from "#core/nix/input-url.ts";
import { parseStorePath } from "#core/nix/store-path.ts";
import type { EvaluationJob } from "#core/protocol/server-messages.ts";
import type { AssignedEvaluation } from "#core/services/transitions/assign.ts";
import type { HubDeps } from "./deps.ts";

/** What a worker is told of an evaluation. The organization's key goes along only where something needs it. */
export async function evaluationJob(deps: HubDeps, evaluation: AssignedEvaluation): Promise<EvaluationJob> {
  const { timeoutMs, attributesMax, derivationsMax, messagesMax } = deps.limits.evaluation;
  const { source } = evaluation;
  return {
    kind: "evaluation",
    evaluation: evaluation.id,
    organization: evaluation.organization_id,
    repository: evaluation.repository,
    commit: evaluation.commit_hash,
    wildcard: evaluation.wildcard,
    part: evaluation.part,
    trusted: evaluation.trusted,
    overrides: [...evaluation.input_overrides],
    source: source && { ...source, paths: source.paths.flatMap((path) => parseStorePath(path) ?? []) },
    ssh_key: needsKey(evaluation) ? await deps.sshKeyOf(evaluation.organization_id) : null,
    timeout_ms: timeoutMs,
    attributes_max: attributesMax,
    derivations_max: derivationsMax,
    messages_max: messagesMax,
  };
}

/** What was fetched needs no key any more, and a stranger's proposal gets none. */
export function needsKey({
  part,
  trusted,
  repository,
  input_overrides,
}: Pick<AssignedEvaluation, "part" | "trusted" | "repository" | "input_overrides">): boolean {
  if (part === "eval" || !trusted) return false;
  return isSshRepository(repository) || input_overrides.some(({ url }) => url !== null && isSshInput(url));
}

/** `ssh://`, the same behind `git+`, and `user@host:path`. */
function isSshRepository(repository: string): boolean {
  return /^(?:git\+)?ssh:/i.test(repository) || !/^(?:[a-z][a-z0-9+.-]*:\/\/|\/)/i.test(repository);
}
