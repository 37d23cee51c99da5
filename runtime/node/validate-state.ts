import { describeProblem } from "#core/api/state.ts";
import { checkState } from "#core/services/state-check.ts";
import { EnvironmentReader } from "./config/reader.ts";
import { readStateSettings } from "./config/state.ts";
import { readStateFile, readStateSecrets } from "./state-file.ts";

/** What a check of a state file ends with. */
export interface StateVerdict {
  /** 0: good; 1: wrong or unreadable; 2: no file was named. */
  readonly exitCode: 0 | 1 | 2;
  /** For the person who asked; ends without a line break. */
  readonly text: string;
}

/**
 * Checks a state file without a database: the one that is named, or else `GRADIENT_STATE_FILE`. Secrets are checked as
 * far as they can be read here; on the machine that builds a configuration there are none.
 */
export async function validateState(
  path: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<StateVerdict> {
  const reader = new EnvironmentReader(environment);
  const settings = readStateSettings(reader);
  const allowLocalSources = reader.boolean("GRADIENT_ALLOW_LOCAL_SOURCES", false);
  if (reader.problems.length > 0) return { exitCode: 1, text: reader.problems.join("\n") };
  const file = path ?? settings.file;
  if (file === null) {
    const usage = "gradient-server validate-state FILE";
    return { exitCode: 2, text: `no state file: name one (${usage}) or set GRADIENT_STATE_FILE` };
  }
  let json: unknown;
  try {
    json = await readStateFile(file);
  } catch (error) {
    return { exitCode: 1, text: error instanceof Error ? error.message : String(error) };
  }
  const checked = checkState(json, { allowLocalSources, mailEnabled: null });
  const read = await readStateSecrets(checked.document, settings.credentialsFolder);
  const problems = [...checked.problems, ...read.problems].map((problem) => `error: ${describeProblem(problem)}`);
  const warnings = checked.warnings.map((warning) => `warning: ${describeProblem(warning)}`);
  const missing = read.missing.map(({ path, file }) => ({ path, message: `${file} is not here` }));
  const unknown = [...missing, ...read.unreadable].map(describeProblem);
  const notes = unknown.map((words) => `note: ${words}: it is looked at when the server starts`);
  const summary =
    problems.length > 0 ? `${file}: ${problems.length} ${problems.length === 1 ? "error" : "errors"}` : `${file}: good`;
  return { exitCode: problems.length > 0 ? 1 : 0, text: [...problems, ...warnings, ...notes, summary].join("\n") };
}
