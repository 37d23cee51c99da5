import { commitFlake } from "../../e2e/flake.ts";
import { SWITCH_SCRIPT } from "./switch-script.ts";

const SYSTEM = process.arch === "arm64" ? "aarch64-linux" : "x86_64-linux";

/** The part of a system's name after its host, as NixOS makes it of a release and a commit of nixpkgs. */
export const RELEASE = "25.05.20250101.abcdef0";

/** What the systems of a commit differ in from those of another. */
export interface SystemsCommit {
  /** A word that says which of a host's systems one is: the fake root's behaviours and logs go by it. */
  readonly label: string;
  readonly hosts: readonly string[];
  /** Systems with another one run only after a boot. */
  readonly kernel?: string;
  /** Hosts whose system does not build. */
  readonly broken?: readonly string[];
  /** Shell commands that put further files into `$out` of a dependency of each system. */
  readonly payload?: string;
  /** Further dependencies of random bytes, in the closure of each system. */
  readonly packages?: { readonly count: number; readonly bytes: number };
}

/**
 * A flake whose `nixosConfigurations.HOST.config.system.build.toplevel` has the tree of a NixOS system and needs
 * nothing but a shell and coreutils: switch script, version, kernel, initrd, a file of settings and one dependency.
 */
export function systemFlake(commit: SystemsCommit): string {
  const { label, hosts, broken = [], payload = "", kernel = "linux", packages = { count: 0, bytes: 0 } } = commit;
  const hostList = hosts.map((host) => JSON.stringify(host)).join(" ");
  const brokenList = broken.map((host) => JSON.stringify(host)).join(" ");
  return `{
  outputs = { self }: let
    mk = name: script: derivation {
      inherit name; system = "${SYSTEM}"; builder = "/bin/sh"; args = [ "-c" "set -e; \${script}" ];
      PATH = "/usr/bin:/bin";
    };
    package = number: mk "package-\${toString number}" ''
      echo "${label}" > $out; head -c ${packages.bytes} /dev/urandom >> $out
    '';
    packages = builtins.genList package ${packages.count};
    kernel = mk "linux" "echo ${kernel} > $out";
    software = mk "system-path" ''
      mkdir -p $out/bin; echo "${label}" > $out/bin/version
      ${payload}
      for package in \${toString packages}; do echo $package >> $out/bin/packages; done
    '';
    toplevel = host: mk "nixos-system-\${host}-${RELEASE}" ''
      \${if builtins.elem host [ ${brokenList} ] then "echo this system does not build; exit 3" else ""}
      mkdir -p $out/bin $out/etc
      cp \${./switch-to-configuration} $out/bin/switch-to-configuration
      chmod +x $out/bin/switch-to-configuration
      echo "${label}" > $out/label
      printf %s "${RELEASE}" > $out/nixos-version
      printf %s "${SYSTEM}" > $out/system
      echo "\${host} ${label}" > $out/etc/hostname
      ln -s \${kernel} $out/kernel; ln -s \${kernel} $out/initrd; echo "quiet" > $out/kernel-params
      ln -s \${software} $out/sw
    '';
    configuration = host: { config.system.build.toplevel = toplevel host; options = { }; pkgs = { }; };
  in {
    nixosConfigurations = builtins.listToAttrs
      (map (host: { name = host; value = configuration host; }) [ ${hostList} ]);
  };
}
`;
}

/** Commits the systems to the repository, which is made when it is not there. Answers its address. */
export async function commitSystems(folder: string, commit: SystemsCommit): Promise<string> {
  const files = { "flake.nix": systemFlake(commit), "switch-to-configuration": SWITCH_SCRIPT };
  return await commitFlake(folder, files, `Systems of ${commit.label}`);
}
