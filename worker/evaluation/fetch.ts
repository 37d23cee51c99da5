import { createHash } from "node:crypto";
import { access, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { EvaluationEnvironment } from "./environment.ts";
import { EvaluationError } from "./errors.ts";
import { FolderLocks } from "./folder-locks.ts";
import { type GitOptions, type GitResult, runGit, withoutCredentials } from "./git.ts";
import { isGitLink, parseCommitObject, parseGitObjects } from "./git-objects.ts";
import { refuseLocalInputs } from "./lock-file.ts";
import { isRepository, packBytes, removeLeftovers } from "./repository-folder.ts";
import { noteUse, REPOSITORIES_FOLDER } from "./unused-repositories.ts";

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
  /** The text of flake.lock. Null: there is none, or it is a link. */
  readonly lock: string | null;
}

export interface CommitInfo {
  /** The first line. */
  readonly message: string;
  readonly authorName: string;
  readonly authorEmail: string;
}

const COMMIT = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
/** A commit, its tree, flake.nix and flake.lock together. */
const OBJECTS_BYTES_MAX = 32 * 1024 * 1024;
const COMMIT_INFO_LENGTH_MAX = 1_000;
const TIDY_MS_MAX = 300_000;
/** Answers of servers that do not give a commit by its name alone; the wish is then for all branches. */
const SHA_REFUSED =
  /not our ref|unadvertised object|couldn't find remote ref|Unable to find [0-9a-f]{40}|needed object/i;
/** What git says of a repository that a crash left half written. */
const DAMAGED =
  /corrupt|bad object|not a git repository|unable to read|loose object|missing (?:blob|tree)|bad ref|reference broken/i;
const QUIET = ["-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "fetch.unpackLimit=1"];

/** Of the folders of repositories. */
export const repositoryLocks: FolderLocks = new FolderLocks();

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
  const folder = join(environment.dataDir, REPOSITORIES_FOLDER, name);
  const fetching = new Fetching(environment, {
    url,
    commit: source.commit,
    folder,
    deadline: performance.now() + timeoutMs,
  });
  return await repositoryLocks.run(folder, () => fetching.run(), environment.signal);
}

/** What is looked at of a commit. */
interface CommitObjects {
  readonly commit: Buffer;
  readonly hasFlake: boolean;
  readonly lock: string | null;
  /** It is a link: Nix would read what that leads to. */
  readonly isLockLink: boolean;
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
    const objects = (await this.#seen()) ?? (await this.#fetchOrDrop());
    await noteUse(folder);
    const commitInfo = describeCommit(objects);
    this.#checkFlake(objects);
    const reference = `git+file://${encodeURI(folder)}?ref=refs/gradient/${commit}&rev=${commit}`;
    return { flakeReference: reference, folder, commitInfo, lock: objects.isLockLink ? null : objects.lock };
  }

  /** What there is of a commit that was fetched before, mostly nothing. */
  async #seen(): Promise<CommitObjects | null> {
    const { folder, commit } = this.#target;
    const isKnown = await access(join(folder, ".git", "refs", "gradient", commit)).then(
      () => true,
      () => false,
    );
    return isKnown ? await this.#read() : null;
  }

  async #fetchOrDrop(): Promise<CommitObjects> {
    const { folder } = this.#target;
    await this.#prepare();
    return await this.#fetchOrHeal().catch(async (error: unknown) => {
      const isTooLarge = error instanceof EvaluationError && error.code === "repository_too_large";
      if (isTooLarge) await rm(folder, { recursive: true, force: true });
      throw error;
    });
  }

  /** Makes the repository, or frees one that a process died in. Only the holder of the folder's lock is here. */
  async #prepare(): Promise<void> {
    const { folder } = this.#target;
    await mkdir(folder, { recursive: true });
    await removeLeftovers(join(folder, ".git"));
    if (await isRepository(folder)) return;
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

  async #fetchOrHeal(): Promise<CommitObjects> {
    const first = await this.#fetch();
    const objects = first === null ? await this.#read() : null;
    if (objects !== null) return objects;
    if (first !== null && !DAMAGED.test(first.words)) this.#refuse(first);
    await this.#startOver();
    const second = await this.#fetch();
    if (second !== null) this.#refuse(second);
    return (await this.#read()) ?? this.#refuseCommit();
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

  async #fetchRefs(refspec: string): Promise<GitResult> {
    const { url } = this.#target;
    const flags = ["--quiet", "--no-tags", "--force", "--no-write-fetch-head", "--no-recurse-submodules"];
    return await this.#git([...QUIET, "fetch", ...flags, "--", url, refspec], { limitSize: true });
  }

  /** Null when the commit is not there whole. */
  async #read(): Promise<CommitObjects | null> {
    const { commit } = this.#target;
    const names = [
      `refs/gradient/${commit}^{commit}`,
      `${commit}^{tree}`,
      `${commit}:flake.nix`,
      `${commit}:flake.lock`,
    ];
    const shown = await this.#git(["cat-file", "--batch"], {
      input: `${names.join("\n")}\n`,
      stdoutBytesMax: OBJECTS_BYTES_MAX,
    });
    const [found, tree, flake, lock] = (shown.ok && parseGitObjects(shown.stdoutBytes, names.length)) || [];
    if (!found || !tree || flake === undefined || lock === undefined) return null;
    return {
      commit: found.content,
      hasFlake: flake !== null,
      lock: lock?.content.toString("utf8") ?? null,
      isLockLink: isGitLink(tree.content, "flake.lock"),
    };
  }

  #checkFlake({ hasFlake, lock, isLockLink }: CommitObjects): void {
    const { commit } = this.#target;
    if (!hasFlake) {
      throw new EvaluationError(
        "flake_missing",
        `commit ${commit} has no flake.nix at its top: add one, or correct the project's repository`,
      );
    }
    if (this.#environment.allowLocalSources) return;
    if (isLockLink) throw new EvaluationError("flake_broken", "flake.lock is a link: commit the file itself");
    if (lock !== null) refuseLocalInputs(lock);
  }

  async #git(
    args: readonly string[],
    { limitSize = false, ...options }: Pick<GitOptions, "stdoutBytesMax" | "input"> & { limitSize?: boolean } = {},
  ): Promise<GitResult> {
    const { folder, deadline } = this.#target;
    const limit = this.#environment.repositoryBytesMax;
    return await runGit(this.#environment, args, {
      folder,
      timeoutMs: Math.max(1, deadline - performance.now()),
      ...options,
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

function describeCommit({ commit }: CommitObjects): CommitInfo {
  const { authorName, authorEmail, message } = parseCommitObject(commit);
  return {
    authorName: authorName.slice(0, COMMIT_INFO_LENGTH_MAX),
    authorEmail: authorEmail.slice(0, COMMIT_INFO_LENGTH_MAX),
    message: message.slice(0, COMMIT_INFO_LENGTH_MAX),
  };
}

/**
 * Each fetch leaves a pack; git puts them together when there are many. To be called when nobody waits; what is not
 * tidied still works. Never throws.
 */
export async function tidyRepository(folder: string, environment: EvaluationEnvironment): Promise<void> {
  const tidying = () =>
    runGit(environment, ["-c", "gc.autoDetach=false", "gc", "--auto", "--quiet"], { folder, timeoutMs: TIDY_MS_MAX });
  await repositoryLocks.run(folder, tidying, environment.signal).catch((error: unknown) => {
    if (!(error instanceof EvaluationError)) environment.log.warn("a repository was not tidied", { folder, error });
  });
}
