import { requireDisplayName, requireSlug } from "../domain/names.ts";
import { DomainError } from "../errors.ts";
import { AttributePatternError, parseAttributePatterns } from "../nix/attribute-pattern.ts";
import { parseRepositoryUrl, type RepositoryUrl, RepositoryUrlError } from "../nix/flake-ref.ts";
import type { ProjectSettings } from "./projects-deps.ts";

/** The project that build requests make for themselves, and an address of the API. */
const RESERVED_NAMES: readonly string[] = ["build-request", "available"];
const KEEP_EVALUATIONS_DEFAULT = 5;

/** Fields of a project as somebody wants them; absent ones are not looked at. */
export interface ProjectFields {
  readonly name?: string | undefined;
  readonly display_name?: string | undefined;
  readonly repository?: string | undefined;
  readonly wildcard?: string | undefined;
  readonly keep_evaluations?: number | undefined;
  readonly deploy_branch?: string | null | undefined;
}

/** Throws `invalid_name` or `validation`, saying which field is wrong and what to write instead. */
export function checkProjectFields(fields: ProjectFields, settings: ProjectSettings): void {
  if (fields.name !== undefined) checkName(fields.name);
  if (fields.display_name !== undefined) requireDisplayName(fields.display_name, "display_name");
  if (fields.repository !== undefined) parseRepository(fields.repository, settings);
  if (fields.wildcard !== undefined) checkWildcard(fields.wildcard);
  if (fields.deploy_branch != null && !isBranchName(fields.deploy_branch)) {
    throw new DomainError("validation", "deploy_branch: write a branch's name, of letters, digits and ._/+@#%=-");
  }
  if (fields.keep_evaluations !== undefined) checkKeepEvaluations(fields.keep_evaluations, settings);
}

/** Where git fetches from. Throws `validation` for what this server does not fetch. */
export function parseRepository(text: string, { allowLocalSources }: ProjectSettings): RepositoryUrl {
  try {
    return parseRepositoryUrl(text, { allowLocal: allowLocalSources });
  } catch (error) {
    if (error instanceof RepositoryUrlError) throw new DomainError("validation", `repository: ${error.message}`);
    throw error;
  }
}

/** How many evaluations a new project keeps. */
export function keepEvaluationsAtFirst({ keepEvaluations }: ProjectSettings): number {
  return keepEvaluations > 0 ? Math.min(KEEP_EVALUATIONS_DEFAULT, keepEvaluations) : KEEP_EVALUATIONS_DEFAULT;
}

/** git-check-ref-format(1), without the characters of patterns. */
const BRANCH = /^(?!\/)(?!.*(?:\.\.|\/\/|\/\.|@\{|\.lock(?:\/|$)))[A-Za-z0-9_][A-Za-z0-9._/+@#%=-]{0,243}(?<![/.])$/;

/** Whether git takes it for a branch, and no tool for a pattern. */
export function isBranchName(text: string): boolean {
  return BRANCH.test(text);
}

function checkName(name: string): void {
  requireSlug(name, "Project name");
  if (RESERVED_NAMES.includes(name)) {
    throw new DomainError("invalid_name", `Project name \`${name}\` is reserved: choose another one`);
  }
}

function checkWildcard(wildcard: string): void {
  try {
    parseAttributePatterns(wildcard);
  } catch (error) {
    if (error instanceof AttributePatternError) throw new DomainError("validation", `wildcard: ${error.message}`);
    throw error;
  }
}

function checkKeepEvaluations(count: number, { keepEvaluations }: ProjectSettings): void {
  if (keepEvaluations === 0 || count <= keepEvaluations) return;
  throw new DomainError("validation", `keep_evaluations: this server keeps at most ${keepEvaluations} of a project`);
}
