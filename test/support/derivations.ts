import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { BasicDerivation } from "#core/nix/daemon/build.ts";
import { type Derivation, parseDerivation } from "#core/nix/derivation.ts";
import { parseStorePath, type StorePath } from "#core/nix/store-path.ts";
import { type NixDaemon, nixOutput } from "./nix.ts";

/** `mk NAME SCRIPT ATTRIBUTES`: a derivation that runs a shell script, with nothing of nixpkgs. */
const PRELUDE = `let mk = name: script: extra: derivation ({
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
  } // extra); in `;

/** Puts the derivation of a Nix expression, in which `mk` is known, into the daemon's store. */
export async function instantiate(daemon: NixDaemon, expression: string): Promise<StorePath> {
  const path = await nixOutput(["nix-instantiate", "-E", PRELUDE + expression], daemon.env);
  return storePath(path.split("!")[0] as string);
}

export async function readDerivation(daemon: NixDaemon, drvPath: StorePath): Promise<Derivation> {
  return parseDerivation(await readFile(join(daemon.root, drvPath)));
}

/** As a build by value needs it: outputs of input derivations are listed beside the input sources. */
export async function basicDerivation(daemon: NixDaemon, drvPath: StorePath): Promise<BasicDerivation> {
  const derivation = await readDerivation(daemon, drvPath);
  const inputSources = [...derivation.inputSources];
  for (const [inputPath, names] of derivation.inputDerivations) {
    const { outputs } = await readDerivation(daemon, inputPath);
    for (const name of names) inputSources.push(storePath(outputs.get(name)?.path ?? ""));
  }
  return { ...derivation, inputSources };
}

export function outputPath(derivation: Pick<Derivation, "outputs">, name = "out"): StorePath {
  return storePath(derivation.outputs.get(name)?.path ?? "");
}

export function storePath(text: string): StorePath {
  const path = parseStorePath(text);
  if (!path) throw new Error(`${JSON.stringify(text)} is not a store path`);
  return path;
}
