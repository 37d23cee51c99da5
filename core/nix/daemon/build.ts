import type { Derivation } from "../derivation.ts";
import { parseStorePathBaseName, type StorePath } from "../store-path.ts";
import { stripAnsi } from "./ansi.ts";
import { DaemonProtocolError } from "./errors.ts";
import { ERROR_TEXT_BYTES_MAX } from "./limits.ts";
import type { DaemonReader } from "./reader.ts";
import type { DaemonWriter } from "./writer.ts";

/**
 * A derivation by value: what the daemon needs to build it when all inputs are in its store. The outputs carry
 * algorithm and hash as in the `.drv`: without them a fixed output has no network.
 */
export interface BasicDerivation extends Pick<Derivation, "outputs" | "system" | "builder" | "args" | "env"> {
  /** Everything the build may read: the `.drv`'s input sources and the needed outputs of its input derivations. */
  readonly inputSources: Iterable<StorePath>;
}

export const BuildMode = { normal: 0, repair: 1, check: 2 } as const;
export type BuildModeName = keyof typeof BuildMode;

const STATUSES = [
  "built",
  "substituted",
  "already-valid",
  "permanent-failure",
  "input-rejected",
  "output-rejected",
  "transient-failure",
  "cached-failure",
  "timed-out",
  "misc-failure",
  "dependency-failed",
  "log-limit-exceeded",
  "not-deterministic",
  "resolves-to-already-valid",
  "no-substituters",
] as const;

/** `unknown` is a number that a newer Nix added; it is a failure. */
export type BuildStatus = (typeof STATUSES)[number] | "unknown";

const SUCCESSES: ReadonlySet<BuildStatus> = new Set([
  "built",
  "substituted",
  "already-valid",
  "resolves-to-already-valid",
]);

export interface BuildResult {
  readonly status: BuildStatus;
  readonly statusCode: number;
  readonly success: boolean;
  /** Empty on success; without terminal control sequences. It repeats the last log lines. */
  readonly message: string;
  readonly rawMessage: string;
  readonly isNonDeterministic: boolean;
  /** As the daemon says; Nix 2.34 always says 0, so take times from a clock of your own. */
  readonly timesBuilt: number;
  readonly startTimeSeconds: number;
  readonly stopTimeSeconds: number;
  /** Null when the daemon does not measure (before 1.37, and without cgroups). */
  readonly cpuUserMicroseconds: number | null;
  readonly cpuSystemMicroseconds: number | null;
  readonly builtOutputs: readonly BuiltOutput[];
}

/** An output and where it is; `drvHash` (`sha256:HEX`) identifies the derivation modulo its fixed outputs. */
export interface BuiltOutput {
  readonly drvHash: string;
  readonly outputName: string;
  readonly path: StorePath;
  readonly signatures: readonly string[];
  /** Paths by realisation id (`sha256:HEX!out`). */
  readonly dependentRealisations: ReadonlyMap<string, StorePath>;
}

export function writeBasicDerivation(writer: DaemonWriter, derivation: BasicDerivation): void {
  writer
    .list(derivation.outputs, ([name, { path, hashAlgorithm, hash }]) =>
      writer.text(name).text(path).byteString(hashAlgorithm).byteString(hash),
    )
    .texts(derivation.inputSources)
    .byteString(derivation.system)
    .byteString(derivation.builder)
    .list(derivation.args, (argument) => writer.byteString(argument))
    .list(derivation.env, ([name, value]) => writer.byteString(name).byteString(value));
}

export async function readBuildResult(reader: DaemonReader, minor: number): Promise<BuildResult> {
  const statusCode = await reader.number("build status");
  const status = STATUSES[statusCode] ?? "unknown";
  const rawMessage = await reader.displayText("build message", ERROR_TEXT_BYTES_MAX);
  return {
    status,
    statusCode,
    success: SUCCESSES.has(status),
    message: stripAnsi(rawMessage).trim(),
    rawMessage,
    timesBuilt: await reader.number("times built"),
    isNonDeterministic: await reader.boolean("not deterministic"),
    startTimeSeconds: await reader.number("start time"),
    stopTimeSeconds: await reader.number("stop time"),
    cpuUserMicroseconds: minor >= 37 ? await readOptionalNumber(reader, "user time") : null,
    cpuSystemMicroseconds: minor >= 37 ? await readOptionalNumber(reader, "system time") : null,
    builtOutputs: await reader.list("built outputs", () => readBuiltOutput(reader)),
  };
}

async function readOptionalNumber(reader: DaemonReader, what: string): Promise<number | null> {
  return (await reader.boolean(what)) ? await reader.number(what) : null;
}

async function readBuiltOutput(reader: DaemonReader): Promise<BuiltOutput> {
  const id = await reader.text("realisation id");
  const json = await reader.text("realisation");
  const match = /^(sha256:[0-9a-f]{64})!([0-9a-zA-Z+\-._?=]+)$/.exec(id);
  const value = parseRealisation(json);
  if (!match || !value) throw new DaemonProtocolError(`realisation ${id} is malformed`);
  return { drvHash: match[1] as string, outputName: match[2] as string, ...value };
}

type Realisation = Omit<BuiltOutput, "drvHash" | "outputName">;

function parseRealisation(json: string): Realisation | null {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { outPath, signatures = [], dependentRealisations = {} } = value as Record<string, unknown>;
  const path = parseBaseName(outPath);
  if (path === null || !Array.isArray(signatures) || !signatures.every((item) => typeof item === "string")) return null;
  if (typeof dependentRealisations !== "object" || dependentRealisations === null) return null;
  const dependencies = new Map<string, StorePath>();
  for (const [id, baseName] of Object.entries(dependentRealisations)) {
    const dependency = parseBaseName(baseName);
    if (dependency === null) return null;
    dependencies.set(id, dependency);
  }
  return { path, signatures, dependentRealisations: dependencies };
}

function parseBaseName(value: unknown): StorePath | null {
  return typeof value === "string" ? parseStorePathBaseName(value) : null;
}
