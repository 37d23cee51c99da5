import { lstat, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseStorePath, type StorePath } from "#core/nix/store-path.ts";
import type { EvaluationEnvironment } from "./environment.ts";
import { EvaluationError } from "./errors.ts";
import { findLocalInputs } from "./lock-file.ts";
import { askNix } from "./nix-command.ts";

/** A source without a commit: somebody sent it, and the organization's internal store has it. */
export interface SentSource {
  readonly path: StorePath;
}

export interface TakenSource {
  /** Names exactly this source, by its hash. */
  readonly flakeReference: string;
  /** Where Nix may work. */
  readonly folder: string;
}

const NO_COMMIT = /^0+$/;
const LOCK_BYTES_MAX = 16 * 1024 * 1024;

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
  if (!(await isFile(join(root, "flake.nix")))) {
    throw new EvaluationError("flake_missing", "the source has no flake.nix at its top: send the flake's own folder");
  }
  if (!environment.allowLocalSources) await refuseLocalInputs(join(root, "flake.lock"));
  const folder = environment.dataDir;
  const answer = await askNix(environment, {
    args: ["path-info", "--json", path],
    readable: { folder, references: [] },
    deadline,
  });
  const narHash = readNarHash(answer);
  return { flakeReference: `path:${path}?narHash=${encodeURIComponent(narHash)}`, folder };
}

/** A link is none: it may lead out of the source. */
async function isFile(path: string): Promise<boolean> {
  return await lstat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
}

async function refuseLocalInputs(lockFile: string): Promise<void> {
  const size = await lstat(lockFile).then(
    (stats) => (stats.isFile() ? stats.size : 0),
    () => 0,
  );
  if (size === 0) return;
  if (size > LOCK_BYTES_MAX) {
    throw new EvaluationError("flake_broken", `flake.lock is larger than ${LOCK_BYTES_MAX} bytes`);
  }
  const [local] = findLocalInputs(await readFile(lockFile, "utf8"));
  if (local) {
    throw new EvaluationError(
      "local_source_refused",
      `the flake's input ${local.input} points to ${local.location} on the machine that evaluates: ` +
        "use a repository that every worker can reach",
    );
  }
}

/** Nix 2.19 and later answer with an object by path, earlier ones with a list. */
function readNarHash(answer: unknown): string {
  const [info] = typeof answer === "object" && answer !== null ? Object.values(answer) : [];
  const narHash = (info as { readonly narHash?: unknown } | undefined)?.narHash;
  if (typeof narHash === "string") return narHash;
  throw new EvaluationError("evaluator_unusable", "nix does not say what hash the source has");
}
