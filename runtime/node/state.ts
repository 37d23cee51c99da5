import { describeProblem } from "#core/api/state.ts";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom } from "#core/lib/ids.ts";
import type { Logger } from "#core/ports/logger.ts";
import { createSecretBox } from "#core/services/secret-box.ts";
import { type AppliedState, applyState, StateError } from "#core/services/state-apply.ts";
import { checkState } from "#core/services/state-check.ts";
import type { StateDeps } from "#core/services/state-context.ts";
import { type Parts, settingsOf } from "./compose.ts";
import type { StateSettings } from "./config/state.ts";
import { argon2Hasher } from "./password-hasher.ts";
import { missingSecret, readStateFile, readStateSecrets } from "./state-file.ts";

export interface StateStart extends StateSettings {
  readonly allowLocalSources: boolean;
  readonly mailEnabled: boolean;
}

/** Each is a line in the log. */
const CHANGES_LOGGED_MAX = 200;

/** Before anybody is served. */
export async function applyDeclaredState(
  { config, databases, notifier, secrets }: Pick<Parts, "config" | "databases" | "notifier" | "secrets">,
  log: Logger,
): Promise<void> {
  const { state, allowLocalSources, keepEvaluations, mail } = config;
  const deps: StateDeps = {
    db: databases.scheduler,
    clock: systemClock,
    random: systemRandom,
    notifier,
    passwords: argon2Hasher,
    secrets: await createSecretBox(secrets.crypt),
    settings: settingsOf(config, secrets),
    projects: { keepEvaluations },
  };
  await applyStateFile({ ...state, allowLocalSources, mailEnabled: mail !== null }, deps, log);
}

/**
 * Makes the server hold what its state file declares; without a file, leaves everything as it is. Throws with words for
 * the operator, and with nothing done.
 */
export async function applyStateFile(
  { file, deleteUnlisted, credentialsFolder, ...rules }: StateStart,
  deps: StateDeps,
  log: Logger,
): Promise<AppliedState | null> {
  if (file === null) return null;
  const { document, problems, warnings } = checkState(await readStateFile(file), rules);
  if (problems.length > 0) throw new StateError(problems);
  const read = await readStateSecrets(document, credentialsFolder);
  const wrong = [
    ...read.problems,
    ...read.unreadable,
    ...read.missing.map((need) => missingSecret(need, credentialsFolder)),
  ];
  if (wrong.length > 0) throw new StateError(wrong);
  for (const warning of warnings) log.warn(`state file: ${describeProblem(warning)}`);
  const applied = await applyState(deps, { document, secrets: read.secrets, options: { deleteUnlisted } });
  for (const warning of applied.warnings) log.warn(`state file: ${warning}`);
  for (const { did, what } of applied.changes.slice(0, CHANGES_LOGGED_MAX)) log.info(`state file: ${did}: ${what}`);
  log.info("the state file was applied", { file, changes: applied.changes.length });
  return applied;
}
