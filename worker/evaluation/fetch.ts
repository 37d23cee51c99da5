import { createHash } from "node:crypto";
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { EvaluationEnvironment } from "./environment.ts";
import { EvaluationError } from "./errors.ts";
import { FolderLocks } from "./folder-locks.ts";
import { type GitResult, runGit, withoutCredentials } from "./git.ts";
import { findLocalInputs } from "./lock-file.ts";

export interface Source {
  /** Any URL that git takes, with or without Nix's `git+` in front. */
  readonly repository: string;
  /** 40 or 64 lower-case hexadecimal digits. */
  readonly commit: string;
}

export interface FetchedSource {
  /** Names exactly this commit; no work tree and no branch is behind it. */
  readonly flakeReference: string;
  readonly folder: string;
  readonly commitInfo: CommitInfo;
}

export interface CommitInfo {
  /** The first line. */
  readonly message: string;
  readonly authorName: string;
  readonly authorEmail: string;
}

const COMMIT = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const LOCK_FILE_BYTES_MAX = 16 * 1024 * 1024;
const COMMIT_INFO_LENGTH_MAX = 1_000;
const TIDY_MS_MAX = 300_000;
/** Answers of servers that do not give a commit by its name alone; the wish is then for all branches. */
const SHA_REFUSED =
  /not our ref|unadvertised object|couldn't find remote ref|Unable to find [0-9a-f]{40}|needed object/i;
/** What git says of a repository that a crash left half written. */
const DAMAGED =
  /corrupt|bad object|not a git repository|unable to read|loose object|missing (?:blob|tree)|bad ref|reference broken/i;
const QUIET = ["-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "fetch.unpackLimit=1"];

const locks = new FolderLocks();

/**
 * Brings a commit into the repository kept for this URL, by its name first (it may be on no branch), and checks that
 * it holds a flake. Throws `EvaluationError`.
 */
export async function fetchSource(
  source: Source,
  environment: EvaluationEnvironment,
  timeoutMs: number,
): Promise<FetchedSource> {
  const url = source.repository.replace(/^git\+/, "");
  if (!COMMIT.test(source.commit)) {
    throw new EvaluationError(
      "commit_not_found",
      `${JSON.stringify(source.commit.slice(0, 80))} is no full commit hash`,
    );
  }
  const name = createHash("sha256").update(url).digest("hex");
  const folder = join(environment.dataDir, "repositories", name);
  const fetching = new Fetching(environment, {
    url,
    commit: source.commit,
    folder,
    deadline: performance.now() + timeoutMs,
  });
  return await locks.run(folder, () => fetching.run());
}

interface FetchTarget {
  readonly url: string;
  readonly commit: string;
  readonly folder: string;
  readonly deadline: number;
}

class Fetching {
  readonly #environment: EvaluationEnvironment;
  readonly #target: FetchTarget;

  constructor(environment: EvaluationEnvironment, target: FetchTarget) {
    this.#environment = environment;
    this.#target = target;
  }

  async run(): Promise<FetchedSource> {
    const { folder, commit } = this.#target;
    await this.#prepare();
    if (!(await this.#hasCommit())) {
      await this.#fetchOrHeal().catch(async (error: unknown) => {
        const isTooLarge = error instanceof EvaluationError && error.code === "repository_too_large";
        if (isTooLarge) await rm(folder, { recursive: true, force: true });
        throw error;
      });
      await this.#tidy();
    }
    const commitInfo = await this.#describe();
    await this.#checkFlake();
    const reference = `git+file://${encodeURI(folder)}?ref=refs/gradient/${commit}&rev=${commit}`;
    return { flakeReference: reference, folder, commitInfo };
  }

  /** Makes the repository, or frees one that a process died in. Only the holder of the folder's lock is here. */
  async #prepare(): Promise<void> {
    const { folder } = this.#target;
    await mkdir(folder, { recursive: true });
    await removeLeftovers(join(folder, ".git"));
    // It has a `.git` folder and nothing beside it: Nix reads such a repository in place and copies a bare one.
    const made = await this.#git(["init", "--quiet", "--initial-branch=gradient", folder]);
    if (!made.ok) await this.#startOver();
  }

  async #startOver(): Promise<void> {
    const { folder } = this.#target;
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
    const made = await this.#git(["init", "--quiet", "--initial-branch=gradient", folder]);
    if (!made.ok) throw new EvaluationError("evaluator_unusable", `git cannot make a repository: ${made.words}`);
  }

  async #fetchOrHeal(): Promise<void> {
    const first = await this.#fetch();
    if (first === null && (await this.#hasCommit())) return;
    if (first !== null && !DAMAGED.test(first.words)) this.#refuse(first);
    await this.#startOver();
    const second = await this.#fetch();
    if (second !== null) this.#refuse(second);
    if (!(await this.#hasCommit())) this.#refuseCommit();
  }

  /** Null when git brought the commit, else what it said. */
  async #fetch(): Promise<GitResult | null> {
    const { commit } = this.#target;
    const ref = `refs/gradient/${commit}`;
    const byName = await this.#fetchRefs(`+${commit}:${ref}`);
    if (byName.ok) return null;
    if (!SHA_REFUSED.test(byName.words)) return byName;
    const all = await this.#fetchRefs("+refs/*:refs/remote/*");
    if (!all.ok) return all;
    if (!(await this.#git(["cat-file", "-e", `${commit}^{commit}`])).ok) this.#refuseCommit();
    const kept = await this.#git(["update-ref", ref, commit]);
    return kept.ok ? null : kept;
  }

  /** Each fetch leaves a pack; git puts them together when there are many. What is not tidied still works. */
  async #tidy(): Promise<void> {
    const remaining = this.#target.deadline - performance.now();
    const options = { folder: this.#target.folder, timeoutMs: Math.max(1, Math.min(TIDY_MS_MAX, remaining / 2)) };
    const tidying = runGit(this.#environment, ["-c", "gc.autoDetach=false", "gc", "--auto", "--quiet"], options);
    await tidying.catch((error: unknown) => {
      if (!(error instanceof EvaluationError) || error.code !== "timed_out") throw error;
    });
  }

  async #fetchRefs(refspec: string): Promise<GitResult> {
    const { url } = this.#target;
    const flags = ["--quiet", "--no-tags", "--force", "--no-write-fetch-head", "--no-recurse-submodules"];
    return await this.#git([...QUIET, "fetch", ...flags, "--", url, refspec], { limitSize: true });
  }

  async #hasCommit(): Promise<boolean> {
    const { commit } = this.#target;
    return (await this.#git(["cat-file", "-e", `refs/gradient/${commit}^{tree}`])).ok;
  }

  async #describe(): Promise<CommitInfo> {
    const format = "--format=%an%x00%ae%x00%s";
    const shown = await this.#git(["log", "-1", "--no-show-signature", format, this.#target.commit, "--"]);
    if (!shown.ok) throw new EvaluationError("evaluator_unusable", `git cannot read the commit: ${shown.words}`);
    const [authorName = "", authorEmail = "", message = ""] = shown.stdout.trimEnd().split("\0");
    return {
      authorName: authorName.slice(0, COMMIT_INFO_LENGTH_MAX),
      authorEmail: authorEmail.slice(0, COMMIT_INFO_LENGTH_MAX),
      message: message.slice(0, COMMIT_INFO_LENGTH_MAX),
    };
  }

  async #checkFlake(): Promise<void> {
    const { commit } = this.#target;
    if (!(await this.#git(["cat-file", "-e", `${commit}:flake.nix`])).ok) {
      throw new EvaluationError(
        "flake_missing",
        `commit ${commit} has no flake.nix at its top: add one, or correct the project's repository`,
      );
    }
    if (this.#environment.allowLocalSources) return;
    const lockFile = await this.#git(["cat-file", "blob", `${commit}:flake.lock`], {
      stdoutBytesMax: LOCK_FILE_BYTES_MAX,
    });
    const [local] = lockFile.ok ? findLocalInputs(lockFile.stdout) : [];
    if (local) {
      throw new EvaluationError(
        "local_source_refused",
        `the flake's input ${local.input} points to ${local.location} on the machine that evaluates: ` +
          "use a repository that every worker can reach",
      );
    }
  }

  async #git(
    args: readonly string[],
    { limitSize = false, stdoutBytesMax }: { limitSize?: boolean; stdoutBytesMax?: number } = {},
  ): Promise<GitResult> {
    const { folder, deadline } = this.#target;
    const limit = this.#environment.repositoryBytesMax;
    return await runGit(this.#environment, args, {
      folder,
      timeoutMs: Math.max(1, deadline - performance.now()),
      ...(stdoutBytesMax === undefined ? {} : { stdoutBytesMax }),
      ...(limitSize ? { isTooLarge: async () => (await packBytes(folder)) > limit } : {}),
    });
  }

  #refuse({ words }: GitResult): never {
    const url = withoutCredentials(this.#target.url);
    if (/transport '.*' not allowed/.test(words)) {
      throw new EvaluationError(
        "local_source_refused",
        `${url} is not fetched: a worker takes repositories over https, http and ssh`,
      );
    }
    if (SHA_REFUSED.test(words)) this.#refuseCommit();
    throw new EvaluationError(
      "repository_unreachable",
      `${url} cannot be fetched: check the URL and the worker's access to it. git says: ${words}`,
    );
  }

  #refuseCommit(): never {
    const { url, commit } = this.#target;
    throw new EvaluationError(
      "commit_not_found",
      `${withoutCredentials(url)} has no commit ${commit}: it may have been removed by a forced push`,
    );
  }
}

/** Locks and unfinished packs of a git that was killed: with them every later command fails, or the disk fills. */
async function removeLeftovers(gitFolder: string): Promise<void> {
  const names = await readdir(gitFolder).catch(() => [] as string[]);
  const stale = names.filter((name) => name.endsWith(".lock")).map((name) => join(gitFolder, name));
  const packFolder = join(gitFolder, "objects", "pack");
  for (const name of await readdir(packFolder).catch(() => [] as string[])) {
    if (name.startsWith("tmp_")) stale.push(join(packFolder, name));
  }
  const refsFolder = join(gitFolder, "refs", "gradient");
  for (const name of await readdir(refsFolder).catch(() => [] as string[])) {
    if (name.endsWith(".lock")) stale.push(join(refsFolder, name));
  }
  for (const path of stale) await rm(path, { force: true });
}

async function packBytes(folder: string): Promise<number> {
  const packFolder = join(folder, ".git", "objects", "pack");
  let total = 0;
  for (const name of await readdir(packFolder).catch(() => [] as string[])) {
    total += (await stat(join(packFolder, name)).catch(() => null))?.size ?? 0;
  }
  return total;
}
