import { type Kysely, type RawBuilder, sql } from "kysely";
import { systemAttributes, WHOLE_HOST_NAME } from "../domain/deployment.ts";
import type { Database } from "./schema.ts";
import type { BuiltSystem } from "./tables/deployment.ts";

/** The newest system that was built for a host. */
export interface WantedRow {
  readonly host: string;
  readonly evaluation_id: string;
  /** What the API calls the build. */
  readonly link_id: string;
  /** The build itself. */
  readonly build_id: string;
  readonly ordinal: number;
  readonly attribute: string[];
  /** Base name. */
  readonly store_path: string;
  readonly available: boolean;
  readonly commit_hash: string;
  readonly commit_message: string;
  readonly branch: string | null;
  readonly finished_at: Date;
}

/** Of each host the newest system of the branch, whatever became of the rest of its evaluation. */
export async function listWantedSystems(
  db: Kysely<Database>,
  {
    projectId,
    branch,
    hosts,
  }: { readonly projectId: string; readonly branch: string; readonly hosts: readonly string[] },
): Promise<WantedRow[]> {
  if (hosts.length === 0) return [];
  const { rows } = await sql<WantedRow>`
    select h.name as host, s.*
    from unnest(${hosts}::text[]) h (name)
    cross join lateral (
      select e.id as evaluation_id, l.id as link_id, b.id as build_id, e.ordinal, p.attribute, o.store_path,
        o.available, e.commit_hash, e.commit_message, e.branch, b.updated_at as finished_at
      from evaluation e
      join entry_point p on p.evaluation_id = e.id and p.attribute in (${attributesOf(sql`h.name`)})
      join evaluation_build l on l.evaluation_id = e.id and l.build_id = p.build_id
      join build b on b.id = l.build_id
      join build_output o on o.build_id = b.id and o.name = 'out' and o.store_path is not null
      where e.project_id = ${projectId} and e.branch = ${branch} and e.deploys and e.trusted
        and coalesce(l.outcome, b.status) in (3, 7)
      order by e.ordinal desc, cardinality(p.attribute) desc limit 1
    ) s`.execute(db);
  return rows;
}

/** Where a host's system may stand in a flake; `host` is an expression for its name. */
export function attributesOf(host: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql.join(
    systemAttributes("").map((path) => {
      return sql`array[${sql.join(path.map((name) => (name === "" ? host : sql.lit(name))))}]`;
    }),
  );
}

export interface BranchOfProject {
  readonly id: string;
  /** That its hosts follow. */
  readonly branch: string | null;
}

export interface ListedHost {
  readonly project_id: string;
  readonly name: string;
}

/**
 * Hosts that have told of themselves, and those that the newest evaluation of the deploy branch names, by the names of
 * their projects and their own.
 */
export async function listFleetHosts(
  db: Kysely<Database>,
  projects: readonly BranchOfProject[],
  { limit, offset }: { readonly limit: number; readonly offset: number },
): Promise<{ readonly hosts: ListedHost[]; readonly total: number }> {
  const ids = projects.map(({ id }) => id);
  const { rows } = await sql<{ total: number; hosts: ListedHost[] | null }>`
    with wanted as (
      select * from unnest(${ids}::uuid[], ${projects.map(({ branch }) => branch)}::text[]) w (id, branch)
    ), named as materialized (
      select h.project_id, h.name from host h where h.project_id = any(${ids}::uuid[])
      union
      select w.id, p.attribute[2] from wanted w
      cross join lateral (${newestWhole(sql`w.id`, sql`w.branch`)}) e
      join entry_point p on p.evaluation_id = e.id and ${isSystem}
    )
    select (select count(*)::int from named) as total, (
      select jsonb_agg(jsonb_build_object('project_id', s.project_id, 'name', s.name) order by s.project, s.name)
      from (
        select n.project_id, n.name, p.name as project from named n join project p on p.id = n.project_id
        order by p.name, n.name limit ${limit} offset ${offset}) s
    ) as hosts`.execute(db);
  return { hosts: rows[0]?.hosts ?? [], total: rows[0]?.total ?? 0 };
}

/** The newest evaluation of the branch that says what there is. */
function newestWhole(project: RawBuilder<unknown>, branch: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`
    select e.id from evaluation e
    where e.project_id = ${project} and e.branch = ${branch} and e.deploys and e.building_started_at is not null
    order by e.ordinal desc limit 1`;
}

/** Whether the entry point `p` is the system of a host that can be addressed. */
const isSystem = sql`(p.attribute[1] = 'nixosConfigurations'
  and (cardinality(p.attribute) = 2 or p.attribute[3:] = '{config,system,build,toplevel}')
  and p.attribute[2] ~ ${sql.lit(WHOLE_HOST_NAME)})`;

/** Whether an evaluation of the branch has this host. */
export async function isHostNamed(
  db: Kysely<Database>,
  { projectId, branch, host }: { readonly projectId: string; readonly branch: string; readonly host: string },
): Promise<boolean> {
  const { rows } = await sql`
    select from evaluation e
    join entry_point p on p.evaluation_id = e.id and p.attribute in (${attributesOf(sql`${host}::text`)})
    where e.project_id = ${projectId} and e.branch = ${branch} and e.deploys limit 1`.execute(db);
  return rows.length > 0;
}

/** A system of a host, and where it may have been built. */
export interface SoughtSystem {
  readonly projectId: string;
  readonly host: string;
  /** Base name. */
  readonly storePath: string;
}

/** The system that a build of the API is, if it is this one, and of an evaluation that may deploy. */
export async function findOfferedSystem(
  db: Kysely<Database>,
  sought: SoughtSystem,
  linkId: string,
): Promise<BuiltSystem | null> {
  return await findSystemWhere(db, sought, sql`l.id = ${linkId}`);
}

/** Where it was built last on this branch; of evaluations that may deploy and are there still. */
export async function findBuiltSystem(
  db: Kysely<Database>,
  sought: SoughtSystem,
  branch: string,
): Promise<BuiltSystem | null> {
  return await findSystemWhere(db, sought, sql`e.branch = ${branch}`);
}

/** The path alone does not tell: other branches and pull requests may have built the same. */
async function findSystemWhere(
  db: Kysely<Database>,
  { projectId, host, storePath }: SoughtSystem,
  where: RawBuilder<unknown>,
): Promise<BuiltSystem | null> {
  const { rows } = await sql<BuiltSystem>`
    select l.id as build_id, e.id as evaluation_id, e.ordinal::float8 as "order", e.commit_hash as commit,
      split_part(e.commit_message, E'\n', 1) as commit_message, e.branch
    from build_output o
    join evaluation_build l on l.build_id = o.build_id
    join evaluation e on e.id = l.evaluation_id and e.project_id = ${projectId} and e.deploys and e.trusted
    join entry_point p on p.evaluation_id = e.id and p.build_id = o.build_id
      and p.attribute in (${attributesOf(sql`${host}::text`)})
    where o.store_path = ${storePath} and ${where}
    order by e.ordinal desc limit 1`.execute(db);
  return rows[0] ?? null;
}

/** The evaluation that a build of the API belongs to, if it is one of the project's. */
export async function findEvaluationOfBuild(
  db: Kysely<Database>,
  projectId: string,
  linkId: string,
): Promise<{ readonly id: string; readonly ordinal: number; readonly commit_hash: string } | undefined> {
  return await db
    .selectFrom("evaluation_build")
    .innerJoin("evaluation", "evaluation.id", "evaluation_build.evaluation_id")
    .select(["evaluation.id", "evaluation.ordinal", "evaluation.commit_hash"])
    .where("evaluation_build.id", "=", linkId)
    .where("evaluation.project_id", "=", projectId)
    .executeTakeFirst();
}
