#!/usr/bin/env node
/**
 * What nix-eval-jobs 2.33 prints for the arguments that the worker gives it, by its README and src/worker.cc: one line
 * of JSON for each attribute, with `drvPath` or with `error`, none for what is no derivation. Its derivations are
 * Nix's own. With FAKE_CRASH it ends behind the first line, as when one of its workers is killed.
 */
import { execFileSync } from "node:child_process";

const args = process.argv.slice(2);
const expression = args[args.indexOf("--expr") + 1] ?? "";
const options = args.slice(args.indexOf("--max-memory-size") + 2, args.indexOf("--expr"));

function evaluate(text: string): unknown {
  const output = execFileSync(
    "nix-instantiate",
    ["--eval", "--strict", "--json", "--read-write-mode", ...options, "-E", text],
    { stdio: ["ignore", "pipe", "ignore"], encoding: "utf8" },
  );
  return JSON.parse(output);
}

for (const attr of evaluate(`builtins.attrNames (${expression})`) as string[]) {
  const job: Record<string, unknown> = { attr, attrPath: [attr] };
  try {
    const kind = evaluate(`let v = (${expression}).${attr}; in builtins.isAttrs v && (v.type or "") == "derivation"`);
    if (kind !== true) continue;
    const shown = `let v = (${expression}).${attr}; in { inherit (v) drvPath name system; outputs.out = v.outPath; }`;
    Object.assign(job, evaluate(shown));
  } catch {
    job.error = "error: attribute 'x' missing";
  }
  process.stdout.write(`${JSON.stringify(job)}\n`);
  if (process.env.PATH?.includes("/fake-crash")) {
    process.stderr.write("error: while checking worker process, evaluation worker got killed by SIGKILL\n");
    process.exit(1);
  }
}
