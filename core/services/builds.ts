import type { BuildDependency, BuildView } from "../api/builds.ts";
import { naiveTime } from "../api/times.ts";
import {
  type BuildLink,
  findAttemptOfLink,
  findBuildLink,
  listBuildOutputs,
  listDependencyLinks,
} from "../db/builds-read.ts";
import type { Actor } from "../domain/actor.ts";
import { buildStatusName } from "../domain/states.ts";
import { requireOrganizationOf } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";

const DEPENDENCIES_MAX = 10_000;

type ReadDeps = Pick<ServiceDeps, "db">;

/** A build that the actor may not see is reported exactly like one that does not exist. */
export async function requireBuild(deps: ReadDeps, actor: Actor, id: string): Promise<BuildLink> {
  return (await requireBuildAccess(deps, actor, id)).link;
}

export async function getBuild(deps: ReadDeps, actor: Actor, id: string): Promise<BuildView> {
  const { link, member } = await requireBuildAccess(deps, actor, id);
  const outputs = await listBuildOutputs(deps.db, link.build_id);
  const attempt = await findAttemptOfLink(deps.db, id);
  return {
    id: link.id,
    evaluation: link.evaluation_id,
    status: buildStatusName(link.status),
    derivation_path: link.drv_path,
    architecture: link.system,
    // Who knows a worker's id may ask which organizations registered it.
    worker: member ? (attempt?.worker_id ?? null) : null,
    output: Object.fromEntries(
      outputs.flatMap(({ name, store_path }) => (store_path === null ? [] : [[name, store_path]])),
    ),
    created_at: naiveTime(link.created_at),
    updated_at: naiveTime(link.updated_at),
  };
}

/** What it needs directly, by name. */
export async function listDependencies(deps: ReadDeps, actor: Actor, id: string): Promise<BuildDependency[]> {
  const link = await requireBuild(deps, actor, id);
  const rows = await listDependencyLinks(deps.db, link, DEPENDENCIES_MAX);
  return rows.map((row) => ({
    id: row.id,
    name: row.name,
    path: row.drv_path,
    status: buildStatusName(row.status),
    created_at: naiveTime(row.created_at),
    updated_at: naiveTime(row.updated_at),
  }));
}

async function requireBuildAccess(
  deps: ReadDeps,
  actor: Actor,
  id: string,
): Promise<{ readonly link: BuildLink; readonly member: boolean }> {
  const link = await findBuildLink(deps.db, id);
  const { member } = await requireOrganizationOf(deps, actor, link?.organization_id, "read", "Build");
  return { link: link as BuildLink, member };
}
