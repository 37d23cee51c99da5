// Writes nixos/packages/npm-hashes.json: what Nix must find when npm has installed the packages that server and worker
// run with, for each system. Needs npm with a registry, and nix.
//
//   node scripts/npm-hashes.ts            writes the file
//   node scripts/npm-hashes.ts --check    installs and compares: 1 when the file is another
//   node scripts/npm-hashes.ts --quick    compares only what was locked when the file was written; needs neither
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const packages = join(root, "nixos", "packages");
const hashesPath = join(packages, "npm-hashes.json");
const CPUS = { "x86_64-linux": "x64", "aarch64-linux": "arm64" } as const;

function run(command: string, args: readonly string[]): string {
  const { status, stdout, error } = spawnSync(command, args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${status}`);
  return stdout.trim();
}

function inFolder<Result>(work: (folder: string) => Result): Result {
  const folder = mkdtempSync(join(tmpdir(), "gradient-npm-"));
  try {
    for (const name of ["package.json", "package-lock.json"]) cpSync(join(root, name), join(folder, name));
    return work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Of what is locked for production: while it stays, so do the hashes. */
function lockDigest(): string {
  return inFolder((folder) => {
    run(process.execPath, [join(root, "scripts", "production-manifest.mjs"), folder]);
    const digest = createHash("sha256");
    for (const name of ["package.json", "package-lock.json"]) digest.update(readFileSync(join(folder, name)));
    return digest.digest("hex");
  });
}

/** The package's output is a folder with `node_modules` in it, and nothing else. */
function hashFor(cpu: string): string {
  return inFolder((folder) => {
    run("sh", [join(packages, "install-node-modules.sh"), folder, cpu]);
    for (const name of ["package.json", "package-lock.json"]) rmSync(join(folder, name));
    return run("nix", ["--extra-experimental-features", "nix-command", "hash", "path", "--type", "sha256", folder]);
  });
}

function installedHashes(): Record<string, string> {
  return Object.fromEntries(Object.entries(CPUS).map(([system, cpu]) => [system, hashFor(cpu)]));
}

const mode = process.argv[2] ?? "--write";
const written = JSON.parse(readFileSync(hashesPath, "utf8")) as Record<string, string>;
const lock = lockDigest();
if (mode === "--quick") {
  if (written.lock !== lock) {
    console.error("nixos/packages/npm-hashes.json is of another package-lock.json: run node scripts/npm-hashes.ts");
    process.exitCode = 1;
  }
} else if (mode === "--check") {
  const hashes: Record<string, string> = { lock, ...installedHashes() };
  const wrong = Object.keys(hashes).filter((name) => hashes[name] !== written[name]);
  for (const name of wrong) console.error(`npm-hashes.json: ${name} is ${written[name]}, should be ${hashes[name]}`);
  if (wrong.length > 0) process.exitCode = 1;
} else if (mode === "--write") {
  writeFileSync(hashesPath, `${JSON.stringify({ lock, ...installedHashes() }, null, 2)}\n`);
} else {
  throw new Error(`${mode} is neither --check nor --quick`);
}
