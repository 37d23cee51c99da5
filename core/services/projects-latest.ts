import type { LatestView } from "../api/caches-retention.ts";
import { naiveTime } from "../api/times.ts";
import { listLatestSuccesses } from "../db/latest-successes.ts";
import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { AttributePathError, formatAttributePath, parseAttributePath } from "../nix/attribute-path.ts";
import { requireProject } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";

/** They come without pages. */
const LATEST_MAX = 10_000;

/**
 * The latest successful build of each entry point of a project, or of one, whatever newer evaluations came to. It is
 * there for as long as newer evaluations have the entry point.
 */
export async function listLatestBuilds(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  which: { readonly organization: string; readonly project: string },
  attribute: string | undefined,
): Promise<LatestView[]> {
  const { project } = await requireProject(deps, actor, which, "read");
  const wanted = attribute === undefined ? null : wantedAttribute(attribute);
  const rows = await listLatestSuccesses(deps.db, project.id, { attribute: wanted, limit: LATEST_MAX });
  return rows.map((row) => ({
    attribute: formatAttributePath(row.attribute),
    evaluation_id: row.evaluation_id,
    build_id: row.link_id,
    derivation: row.drv_path,
    commit: row.commit_hash,
    created_at: naiveTime(row.created_at),
  }));
}

function wantedAttribute(text: string): string[] {
  try {
    return parseAttributePath(text);
  } catch (error) {
    if (error instanceof AttributePathError) throw new DomainError("validation", `attribute: ${error.message}`);
    throw error;
  }
}
