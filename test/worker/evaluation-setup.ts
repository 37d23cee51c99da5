import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { StorePath } from "#core/nix/store-path.ts";
import type { LockedInputField } from "#core/protocol/fields.ts";
import type { EntryPoint, GraphBatch } from "#worker/evaluation/batches.ts";
import type { EvaluationEnvironment } from "#worker/evaluation/environment.ts";
import { type EvaluationJob, type EvaluationOutcome, evaluate } from "#worker/evaluation/evaluate.ts";
import { EvaluatorPool } from "#worker/evaluation/evaluator-pool.ts";
import type { CommitInfo } from "#worker/evaluation/fetch.ts";
import type { EvaluationMessage } from "#worker/evaluation/messages.ts";
import type { KnownQuestion } from "#worker/evaluation/walk-node.ts";
import type { NixDaemon } from "../support/nix.ts";
import { pathWithNix } from "../support/nix-path.ts";
import { quietLogger } from "../support/quiet-logger.ts";

const exec = promisify(execFile);
/** Shared by the tests of a file; other users' processes and short lives are tested with pools of their own. */
const evaluators = new EvaluatorPool({ evaluatorsMax: 2, evaluationsPerProcessMax: 20, idleMsMax: 2_000 });
let nextRepository = 0;

export interface TestRepository {
  readonly folder: string;
  readonly url: string;
  readonly commit: string;
}

/** `let` bindings for flakes of tests: `mk NAME COMMAND ATTRIBUTES` is a derivation that needs nothing but /bin/sh. */
export const MAKE = `
  system = "x86_64-linux";
  mk = name: cmd: extra: derivation ({ inherit name system; builder = "/bin/sh"; args = [ "-c" cmd ]; } // extra);
`;

/** A flake without inputs whose outputs are the given expression. */
export function flakeOf(outputs: string): string {
  return `{ outputs = { self }: let ${MAKE} in ${outputs}; }`;
}

export async function git(folder: string, ...args: string[]): Promise<string> {
  const identity = { GIT_AUTHOR_NAME: "Ada", GIT_AUTHOR_EMAIL: "ada@example.org", GIT_COMMITTER_NAME: "Ada" };
  const env = { PATH: process.env.PATH, HOME: folder, GIT_COMMITTER_EMAIL: "ada@example.org", ...identity };
  return (await exec("git", ["-C", folder, ...args], { env })).stdout.trim();
}

/** A repository with one commit of these files. */
export async function makeRepository(daemon: NixDaemon, files: Record<string, string>): Promise<TestRepository> {
  const folder = join(daemon.folder, `repository-${nextRepository++}`);
  await mkdir(folder);
  await git(folder, "init", "--quiet", "--initial-branch=main");
  const commit = await commitFiles(folder, files, "first commit\n\nwith a body");
  return { folder, url: `file://${folder}`, commit };
}

export async function commitFiles(folder: string, files: Record<string, string>, message: string): Promise<string> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
  }
  await git(folder, "add", "--all");
  await git(folder, "commit", "--quiet", "--message", message);
  return await git(folder, "rev-parse", "HEAD");
}

export function environmentFor(daemon: NixDaemon, changes: Partial<EvaluationEnvironment> = {}): EvaluationEnvironment {
  return {
    dataDir: join(daemon.folder, "worker"),
    nixCommand: "nix",
    gitCommand: "git",
    evalJobsCommand: null,
    variables: {
      PATH: pathWithNix(),
      NIX_CONF_DIR: daemon.env.NIX_CONF_DIR as string,
    },
    nixRemote: daemon.storeUrl,
    storeRoot: daemon.root,
    allowLocalSources: true,
    allowImportFromDerivation: false,
    substituterUrl: null,
    evaluatorUser: null,
    sshProgram: "ssh",
    sshAgentSocket: null,
    sshKnownHostsFile: null,
    evaluatorsMax: 1,
    evaluators,
    evaluatorMemoryBytesMax: null,
    attributeTimeoutMs: 30_000,
    repositoryBytesMax: 64 * 1024 * 1024,
    signal: new AbortController().signal,
    log: quietLogger,
    ...changes,
  };
}

export interface EvaluationRecord {
  readonly outcome: EvaluationOutcome;
  readonly phases: readonly string[];
  readonly commitInfo: CommitInfo | null;
  /** What the flake's lock says. */
  readonly inputs: readonly LockedInputField[] | null;
  readonly messages: readonly EvaluationMessage[];
  readonly batches: readonly GraphBatch[];
  readonly sources: readonly StorePath[];
  readonly questions: readonly KnownQuestion[];
  /** Paths that were asked for before the evaluation began. */
  readonly taken: readonly StorePath[];
  /** By attribute, as it is written in Nix. */
  readonly entryPoints: Readonly<Record<string, StorePath>>;
  readonly entryPointList: readonly EntryPoint[];
  /** Error messages by attribute. */
  readonly errors: Readonly<Record<string, string>>;
}

export interface EvaluationRequest {
  readonly job: Partial<EvaluationJob> & { readonly wildcard: string };
  readonly environment?: Partial<EvaluationEnvironment>;
  readonly known?: (question: KnownQuestion) => boolean;
  readonly onBatch?: (batch: GraphBatch) => void | Promise<void>;
  readonly onPhase?: (phase: string) => void;
}

/** Runs a whole evaluation of a repository and writes down what came out. */
export async function evaluateRepository(
  daemon: NixDaemon,
  repository: TestRepository,
  { job, environment, known = () => false, onBatch, onPhase }: EvaluationRequest,
): Promise<EvaluationRecord> {
  const phases: string[] = [];
  const messages: EvaluationMessage[] = [];
  const batches: GraphBatch[] = [];
  const sources: StorePath[] = [];
  const questions: KnownQuestion[] = [];
  const infos: [CommitInfo, readonly LockedInputField[] | null][] = [];
  const taken: StorePath[] = [];
  const limits = { timeoutMs: 60_000, maxAttributes: 10_000, maxDerivations: 10_000, maxMessages: 1_000 };
  const source = { overrides: [], stored: null };
  const outcome = await evaluate(
    { repository: repository.url, commit: repository.commit, ...limits, ...source, ...job },
    environmentFor(daemon, environment),
    {
      phase: (phase) => {
        phases.push(phase);
        onPhase?.(phase);
      },
      commitInfo: (info, inputs) => void infos.push([info, inputs]),
      message: (message) => void messages.push(message),
      takeStored: async (paths) => void taken.push(...paths),
      known: async (asked) => {
        questions.push(...asked);
        return asked.map(known);
      },
      sources: async (paths) => void sources.push(...paths),
      batch: async (batch) => {
        batches.push(batch);
        await onBatch?.(batch);
      },
    },
  );
  const entryPointList = batches.flatMap(({ entryPoints }) => entryPoints);
  const failed = messages.filter(({ level }) => level === "error");
  return {
    outcome,
    phases,
    messages,
    batches,
    sources,
    questions,
    taken,
    commitInfo: infos[0]?.[0] ?? null,
    inputs: infos[0]?.[1] ?? null,
    entryPointList,
    entryPoints: Object.fromEntries(entryPointList.map(({ attribute, drvPath }) => [attribute.join("/"), drvPath])),
    errors: Object.fromEntries(failed.map(({ attribute, text }) => [attribute?.join("/") ?? "", text])),
  };
}
