// Writes nixos/packages/npm-hashes.json: what Nix must find when npm has installed the packages that the programs run
// with, for each system. Needs npm with a registry, and nix.
//
//   node scripts/npm-hashes.ts            writes the file
//   node scripts/npm-hashes.ts --check    installs and compares: 1 when the file is another, 3 when npm or nix cannot
//                                         be asked
//   node scripts/npm-hashes.ts --quick    compares only what was locked when the file was written; needs neither
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const packages = join(root, "nixos", "packages");
const hashesPath = join(packages, "npm-hashes.json");
const CPUS = { "x86_64-linux": "x64", "aarch64-linux": "arm64" } as const;
const EXIT_WRONG = 1;
const EXIT_CANNOT_ASK = 3;

/** What npm says when the fault is not in what is locked. */
const NO_REGISTRY = /^npm error code (?:E[A-Z_]*(?:AGAIN|CONNREFUSED|CONNRESET|UNREACH|NOTCACHED|NOTFOUND|TIMEDOUT))$/m;
/** What an earlier check has fetched need not be asked for again, and who has no registry learns it soon. */
const WHEN_CHECKING = {
  npm_config_prefer_offline: "true",
  npm_config_fetch_retries: "0",
  npm_config_fetch_timeout: "30000",
};

class CannotAsk extends Error {}

function run(command: string, args: readonly string[], environment: Record<string, string> = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      env: { ...process.env, ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let errors = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      errors += text;
    });
    child.on("error", ({ message }) => reject(new CannotAsk(`${command} did not start: ${message}`)));
    child.on("close", (code) => {
      if (code === 0) return resolve(output.trim());
      const [reason] = NO_REGISTRY.exec(errors) ?? [];
      if (reason !== undefined) return reject(new CannotAsk(reason));
      reject(new Error(`${command} ${args.join(" ")} ended with ${code}: ${errors.slice(-4_000)}`));
    });
  });
}

async function inFolder<Result>(work: (folder: string) => Promise<Result>): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), "gradient-npm-"));
  try {
    for (const name of ["package.json", "package-lock.json"]) cpSync(join(root, name), join(folder, name));
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Of what is locked for production: while it stays, so do the hashes. */
async function lockDigest(): Promise<string> {
  return await inFolder(async (folder) => {
    await run(process.execPath, [join(root, "scripts", "production-manifest.mjs"), folder]);
    const digest = createHash("sha256");
    for (const name of ["package.json", "package-lock.json"]) digest.update(readFileSync(join(folder, name)));
    return digest.digest("hex");
  });
}

/** The package's output is a folder with `node_modules` in it, and nothing else. */
async function hashFor(cpu: string, environment: Record<string, string>): Promise<string> {
  return await inFolder(async (folder) => {
    await run("sh", [join(packages, "install-node-modules.sh"), folder, cpu], environment);
    for (const name of ["package.json", "package-lock.json"]) rmSync(join(folder, name));
    const words = ["--extra-experimental-features", "nix-command", "hash", "path", "--type", "sha256", folder];
    return await run("nix", words);
  });
}

async function installedHashes(environment: Record<string, string> = {}): Promise<Record<string, string>> {
  const entries = Object.entries(CPUS).map(async ([system, cpu]) => [system, await hashFor(cpu, environment)] as const);
  return Object.fromEntries(await Promise.all(entries));
}

async function check(written: Record<string, string>, lock: string): Promise<void> {
  const hashes: Record<string, string> = { lock, ...(await installedHashes(WHEN_CHECKING)) };
  const wrong = Object.keys({ ...written, ...hashes }).filter((name) => hashes[name] !== written[name]);
  for (const name of wrong) console.error(`npm-hashes.json: ${name} is ${written[name]}, should be ${hashes[name]}`);
  if (wrong.length > 0) process.exitCode = EXIT_WRONG;
}

const mode = process.argv[2] ?? "--write";
const written = JSON.parse(readFileSync(hashesPath, "utf8")) as Record<string, string>;
const lock = await lockDigest();
try {
  if (!["--write", "--check", "--quick"].includes(mode)) throw new Error(`${mode} is neither --check nor --quick`);
  if (mode === "--write") {
    writeFileSync(hashesPath, `${JSON.stringify({ lock, ...(await installedHashes()) }, null, 2)}\n`);
  } else if (written.lock !== lock) {
    console.error("nixos/packages/npm-hashes.json is of another package-lock.json: run node scripts/npm-hashes.ts");
    process.exitCode = EXIT_WRONG;
  } else if (mode === "--check") {
    await check(written, lock);
  }
} catch (error) {
  if (!(error instanceof CannotAsk)) throw error;
  console.error(`npm's registry or nix cannot be asked: ${error.message}`);
  process.exitCode = EXIT_CANNOT_ASK;
}
