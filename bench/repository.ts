import { join } from "node:path";
import { commitFlake } from "#test/e2e/flake.ts";
import { addProject, type Gradient } from "#test/e2e/gradient.ts";
import { nixOutput } from "#test/support/nix.ts";
import { SYSTEM } from "./flakes.ts";

/** A git repository with a flake, and the project that builds it. */
export interface Repository {
  /** For `builtins.getFlake` and for the project. */
  readonly url: string;
  readonly project: string;
  commit(flake: string): Promise<void>;
  /** The output path of each package, by evaluation with plain Nix. */
  outputs(env: Readonly<Record<string, string>>): Promise<Record<string, string>>;
}

export async function makeRepository(gradient: Gradient, name: string, flake: string): Promise<Repository> {
  const folder = join(gradient.folder, "repositories", name);
  const commit = async (text: string): Promise<void> => {
    await commitFlake(folder, { "flake.nix": text }, "What is measured next");
  };
  await commit(flake);
  const url = `file://${folder}`;
  const project = await addProject(gradient.api, name, url, `packages.${SYSTEM}.*`);
  // Commits of the other side are not ours to build: nothing looks at the repository by itself.
  const triggers = await gradient.api.request<{ id: string }[]>("GET", `/projects/${project}/triggers`);
  for (const { id } of triggers) await gradient.api.request("DELETE", `/projects/${project}/triggers/${id}`);
  return {
    url: `git+${url}`,
    project,
    commit,
    outputs: async (env) => {
      const apply = "builtins.mapAttrs (name: package: package.outPath)";
      const json = await nixOutput(["nix", "eval", "--json", `git+${url}#packages.${SYSTEM}`, "--apply", apply], env);
      return JSON.parse(json) as Record<string, string>;
    },
  };
}
