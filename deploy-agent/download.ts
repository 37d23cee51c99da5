import { lstatSync, mkdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { SECOND } from "#core/lib/clock.ts";
import { type CommandResult, lastWords, runCommand } from "./commands.ts";
import type { WantedCache } from "./decide.ts";
import type { Failure, WorkResult } from "./machine.ts";
import { netrcFor } from "./netrc.ts";
import { classifyFailure, parseFetchPlan } from "./nix-output.ts";
import type { DeploySettings } from "./read-settings.ts";

type Settings = Pick<
  DeploySettings,
  | "server"
  | "stateDir"
  | "storeRoot"
  | "hostSubstituters"
  | "downloadTimeoutSeconds"
  | "diskMarginBytes"
  | "netrcFile"
  | "caFile"
  | "trustedPublicKeys"
  | "commands"
>;

/** Where Nix puts a garbage collector root: of the new system while it is being deployed, or of the system before. */
export function rootPlace({ stateDir }: Pick<DeploySettings, "stateDir">, name: "next" | "before"): string {
  const folder = join(stateDir, "roots");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return join(folder, name);
}

/**
 * Fetches the closure by Nix with signatures on, and never builds. What Nix has fetched stays valid when this is
 * interrupted, so that a later run fetches only the rest.
 */
export async function download(
  settings: Settings,
  storePath: string,
  {
    caches,
    apiKey,
    signal,
  }: {
    readonly caches: readonly WantedCache[];
    readonly apiKey: () => string;
    readonly signal: AbortSignal;
  },
): Promise<WorkResult> {
  const netrc = join(settings.stateDir, "netrc");
  try {
    rmSync(netrc, { force: true });
    const own = settings.netrcFile === null ? "" : await readFile(settings.netrcFile, "utf8").catch(() => "");
    const lines = netrcFor(caches, { apiKey: apiKey(), server: settings.server, own });
    if (!lines.ok) return failed("bad-answer", lines.reason);
    writeFileSync(netrc, lines.text, { mode: 0o600, flag: "wx" });
    const fetched = await fetchClosure(settings, storePath, { caches, netrc, signal });
    return fetched.ok ? (systemTrouble(settings, storePath) ?? fetched) : fetched;
  } catch (error) {
    return failed("download-failed", `the download could not be prepared: ${(error as Error).message}`);
  } finally {
    rmSync(netrc, { force: true });
  }
}

/** Before anything is touched: a path of a cache may be anything. */
function systemTrouble({ storeRoot }: Settings, storePath: string): Failure | null {
  const program = `${storePath}/bin/switch-to-configuration`;
  // A link may lead from the store to itself, which has another place below the root.
  if (lstatSync(`${storeRoot}${program}`, { throwIfNoEntry: false })) return null;
  return failed("bad-answer", `${storePath} is no system of NixOS: it has no bin/switch-to-configuration`);
}

async function fetchClosure(
  settings: Settings,
  storePath: string,
  {
    caches,
    netrc,
    signal,
  }: {
    readonly caches: readonly WantedCache[];
    readonly netrc: string;
    readonly signal: AbortSignal;
  },
): Promise<WorkResult> {
  const options = { timeoutMs: settings.downloadTimeoutSeconds * SECOND, signal };
  const common = ["--realise", storePath, ...nixOptions(settings, caches, netrc)];
  const trial = await runCommand(settings.commands.nixStore, [...common, "--dry-run"], options);
  if (trial.code !== 0) return explain(trial, settings, { storePath, caches });
  const plan = parseFetchPlan(trial.stderr);
  if (plan.missing.length > 0) return missing(plan.missing, caches);
  const full = diskTrouble(settings, plan.unpackedBytes);
  if (full) return failed("disk-full", full);
  const root = rootPlace(settings, "next");
  const result = await runCommand(settings.commands.nixStore, [...common, "--add-root", root, "--indirect"], options);
  return result.code === 0 ? { ok: true } : explain(result, settings, { storePath, caches });
}

/** Nix before 2.12 fetches as many paths at a time as it may build; to realise a path builds nothing, however many. */
const FETCHED_AT_A_TIME = 16;

/** Signatures on, nothing built, and what was missing an hour ago is asked for again. */
function nixOptions(settings: Settings, caches: readonly WantedCache[], netrc: string): string[] {
  const extra = settings.hostSubstituters ? "extra-" : "";
  const options: readonly (readonly [string, string])[] = [
    [`${extra}substituters`, caches.map(({ url }) => url).join(" ")],
    [`${extra}trusted-public-keys`, trustedKeys(settings, caches).join(" ")],
    ["netrc-file", netrc],
    ["require-sigs", "true"],
    ["substitute", "true"],
    ["fallback", "false"],
    ["builders", ""],
    ["narinfo-cache-negative-ttl", "0"],
    ...(settings.caFile === null ? [] : [["ssl-cert-file", settings.caFile] as const]),
  ];
  const jobs = ["--max-jobs", String(FETCHED_AT_A_TIME)];
  return [...jobs, ...options.flatMap(([name, value]) => ["--option", name, value])];
}

/** The host's own word, where it has one: then the server can only choose among what these keys have signed. */
function trustedKeys({ trustedPublicKeys }: Settings, caches: readonly WantedCache[]): readonly string[] {
  if (trustedPublicKeys.length > 0) return trustedPublicKeys;
  return [...new Set(caches.flatMap(({ publicKeys }) => publicKeys))];
}

function diskTrouble({ storeRoot, diskMarginBytes }: Settings, unpackedBytes: number): string | null {
  if (unpackedBytes === 0) return null;
  const { bavail, bsize } = statfsSync(`${storeRoot}/nix/store`);
  const free = bavail * bsize;
  if (free >= unpackedBytes + diskMarginBytes) return null;
  const megabytes = (bytes: number): string => `${Math.ceil(bytes / 1_000_000)} MB`;
  return (
    `the new system needs ${megabytes(unpackedBytes)}, and ${megabytes(diskMarginBytes)} are to stay free, but ` +
    `${megabytes(free)} are left: collect garbage (nix-collect-garbage --delete-older-than 30d)`
  );
}

function explain(
  result: CommandResult,
  settings: Settings,
  { storePath, caches }: { readonly storePath: string; readonly caches: readonly WantedCache[] },
): Failure {
  if (result.trouble) return failed("download-failed", `nix-store ${result.trouble}`);
  const { end, paths } = classifyFailure(result.stderr);
  const words = lastWords(result.stderr);
  if (end === "missing-path") return missing(paths.length > 0 ? paths : [storePath], caches);
  if (end === "bad-signature") {
    const keys = trustedKeys(settings, caches).join(" ") || "none";
    return failed(end, `${few(paths)} is not signed by a trusted key of ${names(caches)} (keys: ${keys})`);
  }
  if (end === "disk-full") return failed(end, `the disk became full: ${words}`);
  return failed(end, `nix-store could not fetch ${storePath} from ${names(caches)}: ${words}`);
}

function missing(paths: readonly string[], caches: readonly WantedCache[]): Failure {
  return failed("missing-path", `${few(paths)} is in none of the caches: ${names(caches)}; this agent never builds`);
}

function few(paths: readonly string[]): string {
  const rest = paths.length - 3;
  return paths.slice(0, 3).join(", ") + (rest > 0 ? ` (and ${rest} more)` : "");
}

function names(caches: readonly WantedCache[]): string {
  return caches.map(({ name, url }) => `${name} (${url})`).join(", ") || "the server names none for this key";
}

function failed(end: Failure["end"], reason: string): Failure {
  return { ok: false, end, reason };
}
