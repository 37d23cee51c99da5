import type { BuildItem } from "./api.ts";
import type { Gradient } from "./gradient.ts";
import type { Service } from "./process.ts";

/** The name that the derivation gives itself. */
export function shortName({ name }: BuildItem): string {
  return name.slice(33).replace(/\.drv$/, "");
}

/** The build of that short name. Throws when the evaluation has none. */
export async function findBuild({ api }: Gradient, evaluation: string, name: string): Promise<BuildItem> {
  const build = (await api.builds(evaluation)).find((candidate) => shortName(candidate) === name);
  if (!build) throw new Error(`the evaluation has no build ${name}`);
  return build;
}

/** Store paths by the names of the outputs. */
export async function readOutputs({ api }: Gradient, buildId: string): Promise<Readonly<Record<string, string>>> {
  const { output } = await api.request<{ output: Record<string, string> }>("GET", `/builds/${buildId}`);
  return Object.fromEntries(Object.entries(output).map(([name, path]) => [name, `/nix/store/${path}`]));
}

/** The path of `out` of the build of that short name. */
export async function outputOf(gradient: Gradient, evaluation: string, name: string): Promise<string> {
  const { out } = await readOutputs(gradient, (await findBuild(gradient, evaluation, name)).id);
  if (!out) throw new Error(`${name} has no output "out"`);
  return out;
}

/** Short names of the builds that the worker has ended since it was started, in order, as its log tells. */
export function endedBuilds(worker: Service): string[] {
  const lines = worker.output().split("\n");
  return lines.flatMap((line) => (line.includes('"message":"build ended"') ? [JSON.parse(line).name as string] : []));
}
