import type { EvaluationBuildItem, EvaluationView } from "#core/api/evaluations.ts";
import type { Login } from "./account.ts";
import { countByStatus, describeCounts } from "./narrator.ts";
import { count, formatDuration, type Output } from "./output.ts";
import type { Substituted } from "./substitution.ts";

/** What a person needs next. */
export interface Summary {
  readonly url: string;
  readonly evaluation: EvaluationView;
  readonly builds: readonly EvaluationBuildItem[];
  readonly cache: { readonly url: string; readonly publicKey: string };
  readonly login: Login;
  readonly apiKey: string;
  readonly dataDir: string;
  readonly substituted: Substituted | null;
}

/** One line, for programs. */
export function renderJson({ url, evaluation, builds, cache, login, apiKey }: Summary): string {
  return JSON.stringify({
    server: url,
    evaluation: evaluation.id,
    status: evaluation.status,
    builds: countByStatus(builds),
    cache,
    login,
    apiKey,
  });
}

export function printSummary(summary: Summary, output: Output): void {
  const { url, cache, login, apiKey, dataDir, substituted } = summary;
  output.text("");
  output.line("result", describeEnd(summary));
  if (substituted) {
    const others = substituted.paths > 1 ? ` and ${substituted.paths - 1} more that it refers to` : "";
    output.line(
      "proven",
      `an empty store took this${others} from the cache in ${formatDuration(substituted.durationMs)}:`,
    );
    output.detail(substituted.path);
  }
  output.text("");
  output.line("address", url);
  output.line("login", `${login.username}  ${login.password}`);
  output.line("API key", apiKey);
  output.detail(
    `curl -H "Authorization: Bearer $(cat ${dataDir}/api-key)" ${url}/api/v1/evals/${summary.evaluation.id}`,
  );
  output.line("kept in", dataDir);
  output.text("\nTo use the cache, add to nix.conf:\n");
  output.text(`  extra-substituters = ${cache.url}`);
  output.text(`  extra-trusted-public-keys = ${cache.publicKey}\n`);
}

function describeEnd({ evaluation, builds }: Summary): string {
  const errors = evaluation.error_count > 0 ? `, ${count(evaluation.error_count, "error")} (see above)` : "";
  if (evaluation.status === "Failed" && builds.length === 0) return `the evaluation failed${errors}; nothing was built`;
  return `${describeCounts(builds)}${errors}`;
}
