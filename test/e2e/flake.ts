import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { git } from "../support/git.ts";

/** The random bytes of `bulky`: a server needs some 0.5 s to take them. */
export const BULKY_BYTES = 60_000_000;

/**
 * 41 derivations in 5 layers, two of them with three outputs, a fixed-output one, one that fails with two dependents,
 * an attribute that throws, an attribute whose name has dots and spaces, and a source file of the repository. A slow
 * one and, above it, a bulky one give tests the time to disturb: `bulky` differs from build to build, so that what was
 * mixed of two would be noticed.
 */
export const FLAKE = `{
  description = "what the end-to-end test builds";
  outputs = { self }: let
    system = "x86_64-linux";
    mk = name: script: extra: derivation ({
      inherit name system;
      builder = "/bin/sh";
      args = [ "-c" script ];
      PATH = "/usr/bin:/bin";
    } // extra);
    range = n: builtins.genList (i: toString i) n;
    layer1 = map (i: mk "leaf-\${i}" "echo leaf \${i}; echo leaf \${i} > $out" {}) (range 10);
    several = map (i: mk "several-\${i}" ''
      mkdir $out $dev $doc
      echo $dev > $out/dev; cat \${builtins.elemAt layer1 0} > $dev/header; echo read me > $doc/readme
    '' { outputs = [ "out" "dev" "doc" ]; }) (range 2);
    below = layer: i: builtins.elemAt layer (builtins.fromJSON i);
    quote = path: more: "cat \${path} \${more} > $out; echo \${path} >> $out";
    header = "\${(builtins.head several).dev}/header";
    layer2 = map (i: mk "second-\${i}" (quote (below layer1 i) "") {}) (range 8);
    layer3 = map (i: mk "third-\${i}" (quote (below layer2 i) header) {}) (range 6);
    layer4 = map (i: mk "fourth-\${i}" (quote (below layer3 i) "") {}) (range 4);
    all = mk "all" "for i in \${toString (layer1 ++ layer2 ++ layer3 ++ layer4)}; do cat $i; echo $i; done > $out" {};
    text = mk "text" "echo building text; cat \${./text.txt} > $out" {};
    usesText = mk "uses-text" "cat \${text} > $out" {};
    fixed = mk "fixed" "printf hello > $out" {
      outputHashMode = "flat"; outputHashAlgo = "sha256";
      outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    };
    broken = mk "broken" "echo about to fail; exit 3" {};
    slow = mk "slow" "echo slow has begun; sleep 3; echo slow has ended; echo slow > $out" {};
    bulky = mk "bulky" "cat \${slow} > $out; head -c ${BULKY_BYTES} /dev/urandom >> $out" {};
    last = mk "last" "head -n 1 \${bulky} > $out; wc -c < \${bulky} >> $out; echo \${bulky} \${slow} >> $out" {};
    above = mk "above" "cat \${broken} > $out" {};
  in {
    packages.\${system} = {
      inherit all text usesText fixed broken above last;
      aboveToo = mk "above-too" "cat \${broken} > $out" {};
      several = builtins.elemAt several 1;
      "a name.with dots" = mk "dotted" "cat \${fixed} > $out" {};
      throws = throw "this attribute does not evaluate";
    };
  };
}
`;

/** Makes a git repository of these files, or commits a change of them to it. Answers its `file://` address. */
export async function commitFlake(
  folder: string,
  files: Readonly<Record<string, string>>,
  message: string,
): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  await git(folder, "init", "-q");
  await git(folder, "add", "-A");
  await git(folder, "commit", "-q", "-m", message);
  return `file://${folder}`;
}
