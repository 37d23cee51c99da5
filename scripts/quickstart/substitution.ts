import { chmod, lstat, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { BuildView } from "#core/api/builds.ts";
import type { EvaluationBuildItem } from "#core/api/evaluations.ts";
import type { Api } from "./api.ts";
import { lastLines, runCommand } from "./commands.ts";
import type { DataFolder } from "./data-folder.ts";
import type { NixStore } from "./nix-store.ts";
import { QuickstartError } from "./problem.ts";
import type { Tools } from "./requirements.ts";

export interface SubstitutionOptions {
  readonly cacheUrl: string;
  readonly publicKey: string;
  readonly tools: Tools;
  readonly store: NixStore;
  readonly environment: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** What was fetched into an empty store. */
export interface Substituted {
  readonly path: string;
  /** With all it refers to. */
  readonly paths: number;
  readonly durationMs: number;
}

/** Builds that are looked at for the smallest output. */
const CANDIDATES_MAX = 50;
const TIMEOUT_MS = 10 * 60_000;

/**
 * Fetches a build's output from the cache into a store that was made for it and has nothing, as any machine would that
 * has the two lines in its nix.conf, and checks signature and content there. Null when nothing was built. Throws
 * `QuickstartError` with Nix's own words.
 */
export async function substitute(
  api: Api,
  data: DataFolder,
  builds: readonly EvaluationBuildItem[],
  options: SubstitutionOptions,
): Promise<Substituted | null> {
  const path = await choosePath(api, builds, options.cacheUrl);
  if (path === null) return null;
  const store = data.at("substitution");
  await removeStore(store);
  try {
    const startedMs = performance.now();
    await runNix(options, data, "nix-store", ["--store", store, "--realise", path]);
    const durationMs = performance.now() - startedMs;
    const closure = await runNix(options, data, "nix-store", ["--store", store, "--query", "--requisites", path]);
    const features = ["--extra-experimental-features", "nix-command"];
    await runNix(options, data, "nix", [...features, "store", "verify", "--store", store, "--sigs-needed", "1", path]);
    return { path, paths: closure.trim().split("\n").length, durationMs };
  } finally {
    await removeStore(store);
  }
}

/** The smallest of what was built: the proof is no smaller for it, and a system's closure would take its time. */
async function choosePath(api: Api, builds: readonly EvaluationBuildItem[], cacheUrl: string): Promise<string | null> {
  const finished = builds.filter(({ status }) => status === "Completed" || status === "Substituted");
  let best: { readonly path: string; readonly size: number } | null = null;
  for (const { id } of finished.slice(0, CANDIDATES_MAX)) {
    const { output } = await api.get<BuildView>(`/api/v1/builds/${id}`);
    for (const base of Object.values(output)) {
      const narinfo = await api.text(`${new URL(cacheUrl).pathname}/${base.slice(0, 32)}.narinfo`);
      const size = Number(/^NarSize: (\d+)$/m.exec(narinfo ?? "")?.[1] ?? Number.NaN);
      // What refers to others shows more: only their own references make a difference at these sizes.
      const references = (/^References: (.*)$/m.exec(narinfo ?? "")?.[1] ?? "").split(" ").filter((one) => one !== "");
      const weight = size - (references.some((one) => one !== base) ? 4_096 : 0);
      if (narinfo !== null && (best === null || weight < best.size))
        best = { path: `/nix/store/${base}`, size: weight };
    }
  }
  return best?.path ?? null;
}

async function runNix(
  { cacheUrl, publicKey, tools, store, environment, signal }: SubstitutionOptions,
  data: DataFolder,
  command: string,
  args: readonly string[],
): Promise<string> {
  const settings: readonly (readonly [string, string])[] = [
    ["extra-substituters", cacheUrl],
    ["extra-trusted-public-keys", publicKey],
    // What an earlier run asked for in vain may be there now.
    ["narinfo-cache-negative-ttl", "0"],
  ];
  const { code, stdout, stderr } = await runCommand(
    join(dirname(tools.nix), command),
    [...args, ...settings.flatMap(([name, value]) => ["--option", name, value])],
    {
      environment: { ...environment, ...store.variables, NIX_REMOTE: "", HOME: await data.makeFolder("nix", "home") },
      timeoutMs: TIMEOUT_MS,
      signal,
    },
  );
  if (code === 0) return stdout;
  const words = lastLines(stderr, 5).join("\n  ");
  throw new QuickstartError(`${command} cannot take what was built from the cache ${cacheUrl}:\n  ${words}`);
}

/** Nix makes its folders read-only, which keeps an ordinary user from removing them. */
async function removeStore(path: string): Promise<void> {
  await makeWritable(path);
  await rm(path, { recursive: true, force: true });
}

async function makeWritable(path: string): Promise<void> {
  const info = await lstat(path).catch(() => null);
  if (!info?.isDirectory()) return;
  await chmod(path, 0o700);
  for (const name of await readdir(path)) await makeWritable(join(path, name));
}
