import { join } from "node:path";
import { parseStorePath, type StorePath } from "#core/nix/store-path.ts";
import type { EvaluationEnvironment } from "./environment.ts";
import { EvaluationError } from "./errors.ts";
import { LOCK_BYTES_MAX, refuseLocalInputs } from "./lock-file.ts";
import { askNix } from "./nix-command.ts";
import { isPlainFile, isPlainFolder, NotPlainError, readPlainFile } from "./plain-file.ts";

/** A source without a commit: somebody sent it, and the organization's internal store has it. */
export interface SentSource {
  readonly path: StorePath;
}

export interface TakenSource {
  /** Names exactly this source, by its hash. */
  readonly flakeReference: string;
  /** Where Nix may work. */
  readonly folder: string;
  /** The text of flake.lock. Null: there is none. */
  readonly lock: string | null;
}

const NO_COMMIT = /^0+$/;

/** Null for a job that names a repository. */
export function sentSourceOf({
  repository,
  commit,
}: {
  readonly repository: string;
  readonly commit: string;
}): SentSource | null {
  const path = NO_COMMIT.test(commit) ? parseStorePath(repository) : null;
  return path === null ? null : { path };
}

/** Checks that what was sent is a flake, by the rules that hold for repositories. Throws `EvaluationError`. */
export async function takeSentSource(
  { path }: SentSource,
  environment: EvaluationEnvironment,
  deadline: number,
): Promise<TakenSource> {
  const root = `${environment.storeRoot}${path}`;
  // As a link it would be looked at somewhere else.
  if (!(await isPlainFolder(root)) || !(await isPlainFile(join(root, "flake.nix")))) {
    throw new EvaluationError("flake_missing", "the source has no flake.nix at its top: send the flake's own folder");
  }
  const lock = await readLock(join(root, "flake.lock"));
  if (lock !== null && !environment.allowLocalSources) refuseLocalInputs(lock);
  const folder = environment.dataDir;
  const answer = await askNix(environment, {
    args: ["path-info", "--json", path],
    readable: { folder, references: [] },
    deadline,
  });
  const narHash = readNarHash(answer);
  return { flakeReference: `path:${path}?narHash=${encodeURIComponent(narHash)}`, folder, lock };
}

async function readLock(lockFile: string): Promise<string | null> {
  const bytes = await readPlainFile(lockFile, LOCK_BYTES_MAX).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    if (!(error instanceof NotPlainError)) throw error;
    throw new EvaluationError("flake_broken", `flake.lock is not read: ${error.message}`, { cause: error });
  });
  return bytes?.toString("utf8") ?? null;
}

/** Nix 2.19 and later answer with an object by path, earlier ones with a list. */
function readNarHash(answer: unknown): string {
  const [info] = typeof answer === "object" && answer !== null ? Object.values(answer) : [];
  const narHash = (info as { readonly narHash?: unknown } | undefined)?.narHash;
  if (typeof narHash === "string") return narHash;
  throw new EvaluationError("evaluator_unusable", "nix does not say what hash the source has");
}
