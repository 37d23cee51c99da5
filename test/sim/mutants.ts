import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MUTATIONS, type Mutation } from "./mutations.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
/** What a simulation is made of. */
const COPIED = ["core", "handlers", "migrations", "runtime", "scripts", "test", "worker", "package.json"];
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

interface Caught {
  readonly seed: number;
  readonly message: string;
}

/**
 * Makes each mutation in a copy of the source, and runs seeds there until one fails. Prints a table; answers 1 when a
 * mutation was not caught.
 */
export async function runMutants({ first, seeds }: { first: number; seeds: number }): Promise<number> {
  // Of a seed that fails anyway nothing could be learned.
  const unharmed = await firstFailure(ROOT, { first, seeds });
  if (unharmed) throw new Error(`seed ${unharmed.seed} fails without a mutation: ${unharmed.message}`);
  console.log("| taken out | seed | what it says |\n| --------- | ---- | ------------ |");
  let missed = 0;
  for (const mutation of MUTATIONS) {
    const caught = await runMutant(mutation, { first, seeds }).catch((error: unknown) => {
      console.error(error);
      return null;
    });
    if (!caught) missed++;
    console.log(`| ${mutation.what} | ${caught?.seed ?? "none"} | ${caught?.message ?? ""} |`);
  }
  return missed === 0 ? 0 : 1;
}

async function runMutant(mutation: Mutation, options: { first: number; seeds: number }): Promise<Caught | null> {
  const folder = await mkdtemp(join(tmpdir(), "gradient-mutant-"));
  try {
    for (const name of COPIED) await cp(join(ROOT, name), join(folder, name), { recursive: true });
    await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"));
    await mutate(folder, mutation);
    return await firstFailure(folder, options);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function mutate(folder: string, { what, file, from, to }: Mutation): Promise<void> {
  const path = join(folder, file);
  const text = await readFile(path, "utf8");
  const parts = text.split(from);
  if (parts.length !== 2) throw new Error(`${what}: ${file} has ${parts.length - 1} times ${JSON.stringify(from)}`);
  await writeFile(path, parts.join(to));
}

function firstFailure(folder: string, { first, seeds }: { first: number; seeds: number }): Promise<Caught | null> {
  const args = [join(folder, "test/sim/main.ts"), "--seed", String(first), "--seeds", String(seeds), "--first"];
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { cwd: folder, maxBuffer: OUTPUT_BYTES_MAX }, (error, stdout, stderr) => {
      if (!error) return resolve(null);
      const [, seed, message = ""] = /^failing seeds: (\d+) \((.*?)\)(?:, \d+ \(|$)/m.exec(stdout) ?? [];
      if (seed) resolve({ seed: Number(seed), message: message.slice(0, 160) });
      else reject(new Error(`the simulation itself failed: ${stderr}`, { cause: error }));
    });
  });
}
