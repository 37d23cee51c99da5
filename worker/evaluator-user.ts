import { readFile } from "node:fs/promises";
import type { WorkerConfig } from "./config.ts";
import { ProcessStartError, type ProcessUser, runProcess } from "./evaluation/process.ts";

/** Flakes would be evaluated as somebody who may not, or cannot. The message says why and what to do. */
export class EvaluatorUserError extends Error {
  override readonly name = "EvaluatorUserError";
}

/** The oldest version seen to refuse `fetchTree` of any folder by a made-up `rev` (decision 0050). */
const CLOSED_VERSION = { major: 2, minor: 26 };
const COMMAND_TIMEOUT_MS = 30_000;
const OUTPUT_BYTES_MAX = 64 * 1024;
const PASSWD_FILE = "/etc/passwd";

/** Whose processes evaluate; null: the worker's own. Throws `EvaluatorUserError` for an unsafe or impossible choice. */
export async function requireEvaluatorUser(config: WorkerConfig): Promise<ProcessUser | null> {
  if (!config.capabilities.eval && !config.capabilities.fetch) return null;
  if (config.evaluatorUser === null) {
    if (config.allowLocalSources) return null;
    const problem = unsafeNixProblem(await nixVersionText(config));
    if (problem === null) return null;
    throw new EvaluatorUserError(problem);
  }
  const user = await findUser(config, config.evaluatorUser);
  await requireReach(config, config.evaluatorUser, user);
  return user;
}

/**
 * What is wrong with evaluating strangers' flakes as the worker's own user, by what `nix --version` prints; null when
 * nothing is. A version that cannot be told is taken for an old one.
 */
export function unsafeNixProblem(versionText: string): string | null {
  const [, major, minor] = /^nix \((?:Nix|Determinate Nix[^()]*)\) (\d{1,4})\.(\d{1,4})/.exec(versionText.trim()) ?? [];
  const { major: closedMajor, minor: closedMinor } = CLOSED_VERSION;
  const isKnown = major !== undefined && minor !== undefined;
  const isClosed = Number(major) > closedMajor || (Number(major) === closedMajor && Number(minor) >= closedMinor);
  if (isKnown && isClosed) return null;
  const shown = isKnown ? `Nix ${major}.${minor}` : `this Nix (${JSON.stringify(versionText.trim().slice(0, 80))})`;
  return (
    `with ${shown} every flake can read every file that this worker can read: set GRADIENT_WORKER_EVALUATOR_USER to ` +
    "a user that can read nothing of the worker's (the worker must then run as root), or use Nix " +
    `${closedMajor}.${closedMinor} or later (GRADIENT_BINPATH_NIX names its command), or set ` +
    "GRADIENT_WORKER_ALLOW_LOCAL_SOURCES=true when every flake that comes here is trusted"
  );
}

/** The user of that name by the text of passwd(5); null when it is not there. */
export function userOf(passwd: string, name: string): ProcessUser | null {
  const fields = passwd
    .split("\n")
    .map((line) => line.split(":"))
    .find(([first]) => first === name);
  const [, , uid = "", gid = ""] = fields ?? [];
  return /^\d{1,10}$/.test(uid) && /^\d{1,10}$/.test(gid) ? { uid: Number(uid), gid: Number(gid) } : null;
}

async function findUser(config: WorkerConfig, name: string): Promise<ProcessUser> {
  const option = `GRADIENT_WORKER_EVALUATOR_USER=${name}`;
  if (process.getuid?.() !== 0) {
    throw new EvaluatorUserError(
      `${option}: only root can start processes of another user. Run the worker as root, or unset the option and use ` +
        `Nix ${CLOSED_VERSION.major}.${CLOSED_VERSION.minor} or later`,
    );
  }
  const user = userOf(await passwdEntry(config, name), name);
  if (!user) throw new EvaluatorUserError(`${option}: there is no such user. Make it, for instance with useradd -r`);
  if (user.uid !== 0) return user;
  throw new EvaluatorUserError(`${option}: this is root, who can read everything. Name a user of its own`);
}

/** Users of a directory service are known to getent alone, which not every system has. */
async function passwdEntry(config: WorkerConfig, name: string): Promise<string> {
  try {
    const { code, stdout } = await runShort(config, "getent", ["passwd", name]);
    if (code === 0) return stdout;
  } catch (error) {
    if (!(error instanceof ProcessStartError)) throw error;
  }
  return await readFile(PASSWD_FILE, "utf8").catch(() => "");
}

/** Repositories and the evaluator's home are below the data folder. */
async function requireReach(config: WorkerConfig, name: string, user: ProcessUser): Promise<void> {
  const { code } = await runShort(config, "/bin/sh", ["-c", `cd -- "$1"`, "sh", config.dataDir], user);
  if (code === 0) return;
  throw new EvaluatorUserError(
    `GRADIENT_WORKER_EVALUATOR_USER=${name}: this user cannot enter ${config.dataDir}, where repositories are kept. ` +
      "Let others pass through it and the folders above: chmod o+x",
  );
}

async function nixVersionText(config: WorkerConfig): Promise<string> {
  return (await runShort(config, config.nixCommand, ["--version"])).stdout;
}

async function runShort(
  { childVariables, dataDir }: WorkerConfig,
  command: string,
  args: readonly string[],
  user: ProcessUser | null = null,
): Promise<{ readonly code: number | null; readonly stdout: string }> {
  return await runProcess({
    command,
    args,
    environment: { ...childVariables, HOME: dataDir, NIX_USER_CONF_FILES: "", LC_ALL: "C" },
    folder: "/",
    user,
    timeoutMs: COMMAND_TIMEOUT_MS,
    stdoutBytesMax: OUTPUT_BYTES_MAX,
    stderrBytesMax: OUTPUT_BYTES_MAX,
  });
}
