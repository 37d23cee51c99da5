/**
 * The Nix of a newer Debian, unpacked beside the machine's own: neither its packages nor its lists of them are touched,
 * and no root is needed. By itself: `GRADIENT_TEST_NIX_BIN=$(node scripts/newer-nix.ts sid) vitest run test/nix`.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { AptError, downloadPackage, runTool } from "./apt-download.ts";
import { ROOT } from "./source-files.ts";

/** trixie has Nix 2.26; sid has the newest that Debian has, 2.34 when this was written. */
export const NEWER_SUITES: readonly string[] = ["trixie", "sid"];

export type NewerNix =
  /** `bin` is a folder for GRADIENT_TEST_NIX_BIN and for PATH. */
  | { readonly ok: true; readonly bin: string; readonly version: string }
  /** What the machine lacks. */
  | { readonly ok: false; readonly reason: string };

const CACHE = join(ROOT, "node_modules", ".cache", "gradient");
const LIBRARIES = "usr/lib/x86_64-linux-gnu";
/** Where Debian has put it: releases differ. */
const LOADERS = [`${LIBRARIES}/ld-linux-x86-64.so.2`, "usr/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"];
const COMMANDS =
  "nix nix-build nix-collect-garbage nix-copy-closure nix-daemon nix-env nix-hash nix-instantiate nix-store";
/** What apt takes along and Nix runs without: the base system, and Perl for modules that the tests do not use. */
const NOT_NEEDED =
  /^(?:(?:lib)?perl|libdb[di]|debconf|dpkg|adduser|passwd|login|util-linux|mount|tar_|libpam|tzdata|coreutils|base-|[bd]ash_)|-perl_/;

/** Quick when it is there already. Throws when the machine could give it and it does not run all the same. */
export function ensureNewerNix(suite: string, say: (line: string) => void): NewerNix {
  const prefix = join(CACHE, `nix-${suite}`);
  const found = versionOf(prefix);
  if (found !== null) return { ok: true, bin: join(prefix, "wrap"), version: found };

  if (process.platform !== "linux" || process.arch !== "x64") {
    return { ok: false, reason: `this machine is ${process.platform} on ${process.arch}, not Linux on x64` };
  }
  say(`fetching the Nix of Debian ${suite} (once, about 40 MB)`);
  mkdirSync(CACHE, { recursive: true });
  // A place of its own until it is whole: two runs at once must not write into each other's.
  const unpacked = mkdtempSync(join(CACHE, `nix-${suite}-`));
  try {
    for (const archive of downloadPackage("nix-bin", suite, join(unpacked, "apt"))) {
      if (!NOT_NEEDED.test(basename(archive))) runTool("dpkg-deb", ["--extract", archive, unpacked]);
    }
    for (const useless of ["apt", "usr/share/doc", "usr/share/man", "usr/share/locale"]) {
      rmSync(join(unpacked, useless), { recursive: true, force: true });
    }
    writeWrappers(unpacked, prefix);
    // For evaluators that run as a user of their own.
    chmodSync(unpacked, 0o755);
    rmSync(prefix, { recursive: true, force: true });
    renameSync(unpacked, prefix);
  } catch (error) {
    if (error instanceof AptError) return { ok: false, reason: error.message };
    throw error;
  } finally {
    rmSync(unpacked, { recursive: true, force: true });
  }
  const version = versionOf(prefix);
  if (version === null) throw new Error(`the Nix of Debian ${suite} does not run: try ${prefix}/wrap/nix --version`);
  return { ok: true, bin: join(prefix, "wrap"), version };
}

/** Nix needs the libraries of its own release, so its own loader starts it. */
function writeWrappers(unpacked: string, prefix: string): void {
  const loader = LOADERS.find((path) => existsSync(join(unpacked, path)));
  if (loader === undefined) throw new Error(`no loader among ${readdirSync(unpacked).join(", ")}`);
  mkdirSync(join(unpacked, "wrap"));
  for (const command of COMMANDS.split(" ")) {
    const path = join(unpacked, "wrap", command);
    const start = `exec '${prefix}/${loader}' --library-path '${prefix}/${LIBRARIES}' --argv0 ${command}`;
    // Without NIX_BIN_DIR the loader is taken for Nix and started as its build hook, and every build fails.
    writeFileSync(path, `#!/bin/sh\nexport NIX_BIN_DIR='${prefix}/wrap'\n${start} '${prefix}/usr/bin/nix' "$@"\n`);
    chmodSync(path, 0o755);
  }
}

/** Null when it is not there or does not run. */
function versionOf(prefix: string): string | null {
  const { status, stdout } = spawnSync(join(prefix, "wrap", "nix"), ["--version"], { encoding: "utf8" });
  return status === 0 ? (/\d+(?:\.\d+)+/.exec(stdout)?.[0] ?? null) : null;
}

if (import.meta.main) {
  const found = ensureNewerNix(process.argv[2] ?? "sid", (line) => console.error(line));
  if (found.ok) console.log(found.bin);
  else console.error(found.reason);
  process.exitCode = found.ok ? 0 : 1;
}
