import { chown, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { EvaluationEnvironment } from "./environment.ts";
import type { EvaluatorSetup } from "./evaluator-process.ts";
import { gitVariables } from "./git.ts";

/** What evaluates a repository's flake: pure, restricted, and without what the flake asks of Nix. */
export function evaluatorSetup(
  environment: EvaluationEnvironment,
  home: string,
  readable: ReadablePlaces,
): EvaluatorSetup {
  return {
    nixCommand: environment.nixCommand,
    args: nixArguments(environment, home, readable),
    environment: nixVariables(environment, home),
    folder: home,
    user: environment.evaluatorUser,
    memoryBytesMax: environment.evaluatorMemoryBytesMax,
  };
}

/** What a flake may read on this machine. */
export interface ReadablePlaces {
  /** Of the repository, whose commit Nix takes before it evaluates; what is beside it stays out of reach. */
  readonly folder: string;
  /**
   * References of flakes in the store, whole. Never the beginning of one: `path:/nix/store/../../etc` begins like them,
   * and a wrong hash is answered with the right one.
   */
  readonly references: readonly string[];
}

/** Arguments under which Nix reads nothing but the repository, and what its lock file names. */
export function nixArguments(environment: EvaluationEnvironment, home: string, readable: ReadablePlaces): string[] {
  const { allowLocalSources, allowImportFromDerivation, attributeTimeoutMs } = environment;
  const options: (readonly [string, string])[] = [
    ["eval-cache", "false"],
    ["pure-eval", "true"],
    ["accept-flake-config", "false"],
    // Nix 2.8 takes no empty value here.
    ["flake-registry", join(home, "registry.json")],
    ["allow-import-from-derivation", String(allowImportFromDerivation)],
    // Seconds; what is imported is a part of the attribute that imports it.
    ["timeout", String(Math.ceil(attributeTimeoutMs / 1_000))],
  ];
  if (!allowLocalSources) {
    options.push(["restrict-eval", "true"], ["allowed-uris", allowedUris(readable)]);
  }
  return [
    // Whoever builds what is addressed by its content needs `ca-derivations` too; it changes nothing of others.
    ...["--extra-experimental-features", "nix-command flakes ca-derivations", "--log-format", "internal-json"],
    ...options.flatMap(([name, value]) => ["--option", name, value]),
  ];
}

export function nixVariables(environment: EvaluationEnvironment, home: string): Record<string, string> {
  const { variables, nixRemote, substituterUrl } = environment;
  return {
    ...variables,
    ...gitVariables(environment, join(home, ".local", "known_hosts")),
    HOME: home,
    XDG_CACHE_HOME: join(home, ".cache"),
    XDG_CONFIG_HOME: join(home, ".config"),
    XDG_DATA_HOME: join(home, ".local"),
    XDG_STATE_HOME: join(home, ".local"),
    NIX_USER_CONF_FILES: "",
    NIX_REMOTE: nixRemote,
    // Its address is a secret, which other users may read in arguments but not in an environment.
    ...(substituterUrl === null
      ? {}
      : { NIX_CONFIG: `extra-substituters = ${substituterUrl}\nnarinfo-cache-negative-ttl = 0` }),
  };
}

/** Makes the evaluator's home, and answers its folder. */
export async function makeEvaluatorHome({ dataDir, evaluatorUser }: EvaluationEnvironment): Promise<string> {
  const home = join(dataDir, "evaluator-home");
  await mkdir(home, { recursive: true });
  await writeFile(join(home, "registry.json"), '{"version":2,"flakes":[]}\n');
  // The repositories belong to the worker. Newer versions of Nix read them by libgit2, which asks this file alone.
  await writeFile(join(home, ".gitconfig"), "[safe]\n\tdirectory = *\n");
  // Only these are the evaluator's own: what the worker writes above must not be a link that an evaluator left.
  for (const name of [".cache", ".local"]) {
    await mkdir(join(home, name), { recursive: true });
    if (evaluatorUser) await chown(join(home, name), evaluatorUser.uid, evaluatorUser.gid);
  }
  return home;
}

/**
 * Nix compares prefixes that end in a slash or are the whole, and newer versions whole schemes. A folder of this
 * machine is never one: `git+file:///folder/../other` begins like it.
 */
function allowedUris({ references }: ReadablePlaces): string {
  const schemes = ["https://", "http://", "ssh://", "git+https://", "git+http://", "git+ssh://", "tarball+https://"];
  const forges = ["tarball+http://", "file+https://", "file+http://", "github:", "gitlab:", "sourcehut:"];
  return [...schemes, ...forges, ...references].join(" ");
}
