import { randomBytes } from "node:crypto";

export const SYSTEM: string = process.arch === "arm64" ? "aarch64-linux" : "x86_64-linux";

/** Names that no store has: what is built under them cannot be there already. */
export const NAME_PREFIX = "gradient-bench-";

/** The text of a flake without inputs whose packages are new derivations each time it is asked for. */
export interface FlakeShape {
  readonly count: number;
  /** What each builder runs before it writes its output. */
  readonly work: "nothing" | "sleep";
  /** Derivations of one layer need one each of the layer below. 1: all are independent. */
  readonly layers: number;
}

export const SLEEP_SECONDS = 0.2;

export function makeFlake({ count, work, layers }: FlakeShape): string {
  const prefix = `${NAME_PREFIX}${randomBytes(6).toString("hex")}`;
  const width = Math.ceil(count / layers);
  // The prefix makes the contents new as well: what is stored already would be no upload.
  const script = `${work === "sleep" ? `sleep ${SLEEP_SECONDS}; ` : ""}echo ${prefix} \${toString n}`;
  return `{
  outputs = { self }: let
    make = n: derivation {
      name = "${prefix}-\${toString n}";
      system = "${SYSTEM}";
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      args = [ "-c" "${script} \${if n < ${width} then "" else builtins.elemAt all (n - ${width})} > $out" ];
    };
    all = builtins.genList make ${count};
    named = n: { name = "package-\${toString n}"; value = builtins.elemAt all n; };
  in { packages.${SYSTEM} = builtins.listToAttrs (builtins.genList named ${count}); };
}
`;
}

/** A flake of single files of these sizes: by a shell script for each package that writes `$out`. */
export function makeFilesFlake(scripts: Readonly<Record<string, string>>): string {
  const prefix = `${NAME_PREFIX}${randomBytes(6).toString("hex")}`;
  const packages = Object.entries(scripts).map(
    ([name, script]) => `    ${name} = make "${name}" ${JSON.stringify(script)};`,
  );
  return `{
  outputs = { self }: let
    make = name: script: derivation {
      name = "${prefix}-\${name}";
      system = "${SYSTEM}";
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      args = [ "-c" script ];
    };
  in { packages.${SYSTEM} = {
${packages.join("\n")}
  }; };
}
`;
}
