import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { OutboundRules } from "#core/domain/outbound-address.ts";
import { DomainError } from "#core/errors.ts";
import { Semaphore } from "#core/lib/semaphore.ts";
import { parseRepositoryUrl, RepositoryUrlError, redactUrl } from "#core/nix/flake-ref.ts";
import type { GitRemote, RemoteCommit } from "#core/ports/git-remote.ts";
import type { SshKeyOf } from "#core/services/organization-key.ts";
import { gitEnvironment } from "./config/environment.ts";
import { makeFolder } from "./files.ts";
import { type KeyFile, writeKeyFile } from "./git-key.ts";
import { type GitTarget, gitTarget } from "./git-target.ts";
import { AddressRefusedError } from "./reachable-address.ts";

export interface GitRemoteOptions {
  /** Repositories on this machine's own disks. */
  readonly allowLocal: boolean;
  /** Where git may connect to. */
  readonly outbound: OutboundRules;
  /** Absolute. Keeps git's home, which stays empty, and the keys of ssh servers (`known_hosts`). */
  readonly folder: string;
  /** Private keys for repositories over ssh. */
  readonly sshKeyOf?: SshKeyOf;
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 30_000;
/** `ls-remote` prints only what matches: a few lines. */
const OUTPUT_BYTES_MAX = 256 * 1024;
const MESSAGE_LENGTH_MAX = 500;
const PARALLEL_MAX = 8;
/** Full and short names of refs (git-check-ref-format(1)), without the characters of patterns. */
const REF = /^(?!\/)(?!.*(?:\.\.|\/\/|@\{|\.lock(?:\/|$)))[A-Za-z0-9_][A-Za-z0-9._/+@#%=-]{0,254}(?<![/.])$/;
/** What git adds to whatever has happened. */
const GENERAL_ADVICE = new RegExp(
  "fatal: Could not read from remote repository\\.\\s*" +
    "Please make sure you have the correct access rights\\s*and the repository exists\\.\\s*",
);
const ADVICE = "Check its address, and that this server may read it";
const REDIRECTED = /returned error: 30[1278]\b/;
const REDIRECT_ADVICE =
  "It redirects, which is not followed: name the address it leads to (often with .git at its end)";
const SYMBOLIC_HEAD = /^ref: refs\/heads\/(.+)\tHEAD$/m;
const LINE = /^([0-9a-f]{40}|[0-9a-f]{64})\t(.+)$/;

/**
 * Runs `git ls-remote`, with no credentials but those of the URL and only to addresses that the rules allow. At most 8
 * at a time; the others wait.
 */
export function createGitRemote(options: GitRemoteOptions): GitRemote {
  const places = new Semaphore(PARALLEL_MAX);
  return {
    async resolve(url, { ref = "HEAD", organizationId, signal } = {}) {
      if (!REF.test(ref)) throw unreachable(`${JSON.stringify(ref.slice(0, 100))} is not the name of a branch or tag`);
      // A tag that is an object of its own is asked for with the commit it points to.
      const patterns = ref === "HEAD" ? [ref] : [ref, `${ref}^{}`];
      const output = await places.run(() => listRefs(url, patterns, { ...options, organizationId, signal }));
      const found = chooseRef(output, ref);
      if (found) return found;
      throw unreachable(
        ref === "HEAD" ? "the repository has no commit yet: push one first" : `it has no branch or tag ${ref}`,
      );
    },
  };
}

interface Run extends GitRemoteOptions {
  readonly organizationId: string | undefined;
  readonly signal: AbortSignal | undefined;
}

async function listRefs(url: string, patterns: readonly string[], run: Run): Promise<string> {
  const { signal, timeoutMs = TIMEOUT_MS } = run;
  signal?.throwIfAborted();
  const timeout = AbortSignal.timeout(timeoutMs);
  const stop = signal ? AbortSignal.any([signal, timeout]) : timeout;
  try {
    const target = await unlessStopped(findTarget(url, run), stop);
    await using key = await keyFor(target, run);
    const sshOptions = [...target.sshOptions, ...(key?.sshOptions ?? [])];
    return await runGit({ ...target, sshOptions }, patterns, run, stop);
  } catch (error) {
    signal?.throwIfAborted();
    if (timeout.aborted) throw unreachable(`no answer within ${timeoutMs / 1_000} s. ${ADVICE}`);
    throw error;
  }
}

async function findTarget(url: string, { allowLocal, outbound }: Run): Promise<GitTarget> {
  try {
    return await gitTarget(parseRepositoryUrl(url, { allowLocal }), outbound);
  } catch (error) {
    if (error instanceof AddressRefusedError || error instanceof RepositoryUrlError) throw unreachable(error.message);
    throw error;
  }
}

async function keyFor({ sshOptions }: GitTarget, { organizationId, sshKeyOf }: Run): Promise<KeyFile | null> {
  if (sshOptions.length === 0 || organizationId === undefined || !sshKeyOf) return null;
  return await writeKeyFile(await sshKeyOf(organizationId));
}

async function runGit(
  { url, gitArgs, sshOptions }: GitTarget,
  patterns: readonly string[],
  { allowLocal, folder }: Run,
  stop: AbortSignal,
): Promise<string> {
  const home = join(folder, "git-home");
  await makeFolder(home, 0o700);
  stop.throwIfAborted();
  const protocols = allowLocal ? "https:http:ssh:file" : "https:http:ssh";
  const child = spawn("git", [...gitArgs, "ls-remote", "--symref", "--", url, ...patterns], {
    cwd: "/",
    env: gitEnvironment({ protocols, home, knownHostsFile: join(folder, "known_hosts"), sshOptions }),
    stdio: ["ignore", "pipe", "pipe"],
    // git starts helpers; they are ended with it, as one group.
    detached: true,
  });
  const end = (): void => killGroup(child);
  stop.addEventListener("abort", end, { once: true });
  try {
    const [output, words, code] = await Promise.all([read(child, "stdout"), read(child, "stderr"), exitCode(child)]);
    stop.throwIfAborted();
    if (code !== 0) throw unreachable(`${cleaned(words, url)}. ${REDIRECTED.test(words) ? REDIRECT_ADVICE : ADVICE}`);
    return output;
  } finally {
    stop.removeEventListener("abort", end);
    end();
  }
}

/** A look-up of a name cannot be ended; its answer is dropped. */
async function unlessStopped<T>(work: Promise<T>, stop: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const end = (): void => reject(stop.reason);
  stop.addEventListener("abort", end, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    stop.removeEventListener("abort", end);
  }
}

function chooseRef(output: string, ref: string): RemoteCommit | null {
  const commits = new Map<string, string>();
  for (const line of output.split("\n")) {
    const [, commit, name] = LINE.exec(line) ?? [];
    if (commit && name) commits.set(name, commit);
  }
  // The order of gitrevisions(7), tags by the commit they point to.
  for (const name of [ref, `refs/tags/${ref}`, `refs/heads/${ref}`]) {
    const commit = commits.get(`${name}^{}`) ?? commits.get(name);
    if (commit) return { commit, ref: name, branch: branchOf(output, name) };
  }
  return null;
}

function branchOf(output: string, ref: string): string | null {
  if (ref.startsWith("refs/heads/")) return ref.slice("refs/heads/".length);
  return (ref === "HEAD" && SYMBOLIC_HEAD.exec(output)?.[1]) || null;
}

async function read(child: ChildProcess, name: "stdout" | "stderr"): Promise<string> {
  let text = "";
  for await (const chunk of child[name] ?? []) {
    text += (chunk as Buffer).toString("utf8");
    if (text.length > OUTPUT_BYTES_MAX) {
      killGroup(child);
      throw unreachable("it answered with more than expected");
    }
  }
  return text;
}

function exitCode(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.on("error", (error) => reject(new Error(`git could not be run: ${error.message}`, { cause: error })));
    child.on("close", (code) => resolve(code));
  });
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // Everything in the group has ended.
  }
}

/** git's words without what a person must not see: credentials, and control characters from the other side. */
function cleaned(words: string, url: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: removing them is the point
  const text = words.replaceAll(url, redactUrl(url)).replace(/[\0-\x1f\x7f-\x9f]+/g, " ");
  return redactUrl(text.replace(GENERAL_ADVICE, "")).trim().slice(0, MESSAGE_LENGTH_MAX) || "git gave no reason";
}

function unreachable(reason: string): DomainError {
  return new DomainError("repository_unreachable", `the repository cannot be read: ${reason}`);
}
