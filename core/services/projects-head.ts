import type { TriggerConfig } from "../api/triggers.ts";
import { DomainError } from "../errors.ts";
import type { ProjectDeps } from "./projects-deps.ts";
import { isBranchName, parseRepository } from "./projects-rules.ts";

/** What a repository has now. */
export interface Head {
  readonly commit: string;
  /** Null where the repository does not say which branch its HEAD is. */
  readonly branch: string | null;
  /** The branch that HEAD points to; null where another one was asked for, or nobody says so. */
  readonly defaultBranch: string | null;
}

/**
 * The newest commit of a branch; null: of what HEAD points to. Throws `validation` for what is no branch's name, and
 * `repository_unreachable` with git's own words.
 */
export async function resolveHead(
  { git, projects }: Pick<ProjectDeps, "git" | "projects">,
  project: { readonly repository: string; readonly organization_id: string },
  { branch, signal }: { readonly branch: string | null; readonly signal: AbortSignal },
): Promise<Head> {
  if (branch !== null && !isBranchName(branch)) {
    throw new DomainError("validation", "branch: write a branch's name, of letters, digits and ._/+@#%=-");
  }
  const { url } = parseRepository(project.repository, projects);
  const ref = branch === null ? {} : { ref: `refs/heads/${branch}` };
  const found = await git.resolve(url, { ...ref, signal, organizationId: project.organization_id });
  const defaultBranch = branch === null ? (found.branch ?? null) : null;
  return { commit: found.commit, branch: branch ?? defaultBranch, defaultBranch };
}

/** The branch that a trigger looks at; null: what HEAD points to. */
export function branchNamedBy(config: TriggerConfig): string | null {
  return config.type === "polling" ? config.branch : null;
}
