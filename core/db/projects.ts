import { type Kysely, sql, type Transaction, type Updateable } from "kysely";
import type { Database, ProjectRow, ProjectTable } from "./schema.ts";

export interface ProjectWithLast extends ProjectRow {
  readonly last_evaluation: string | null;
  readonly last_evaluation_status: number | null;
}

export type NewProject = Pick<
  ProjectRow,
  | "id"
  | "organization_id"
  | "name"
  | "display_name"
  | "description"
  | "repository"
  | "wildcard"
  | "keep_evaluations"
  | "concurrency"
  | "sign_cache"
  | "deploy_branch"
  | "created_by"
>;

export type ProjectChanges = Omit<Updateable<ProjectTable>, "id" | "organization_id">;

export interface Page {
  readonly limit: number;
  readonly offset: number;
}

/** Some projects are made for people who send sources; not every organization wants to see them. */
export interface ListedProjects {
  readonly organizationId: string;
  /** Of a project that is left out. */
  readonly hiddenName: string | null;
}

export async function listProjects(
  db: Kysely<Database>,
  { organizationId, hiddenName }: ListedProjects,
  page: Page,
): Promise<ProjectWithLast[]> {
  return await projectsWithLast(db)
    .where("project.organization_id", "=", organizationId)
    .$if(hiddenName !== null, (query) => query.where("project.name", "!=", hiddenName))
    .orderBy("project.name")
    .limit(page.limit)
    .offset(page.offset)
    .execute();
}

export async function countProjects(
  db: Kysely<Database>,
  { organizationId, hiddenName }: ListedProjects,
): Promise<number> {
  const { total } = await db
    .selectFrom("project")
    .select(sql<number>`count(*)::int`.as("total"))
    .where("organization_id", "=", organizationId)
    .$if(hiddenName !== null, (query) => query.where("name", "!=", hiddenName))
    .executeTakeFirstOrThrow();
  return total;
}

export async function findProject(
  db: Kysely<Database>,
  organizationId: string,
  name: string,
): Promise<ProjectWithLast | undefined> {
  return await projectsWithLast(db)
    .where("project.organization_id", "=", organizationId)
    .where("project.name", "=", name)
    .executeTakeFirst();
}

/** What decides which hosts get what. */
export async function findDeployingProject(db: Kysely<Database>, id: string) {
  return await db
    .selectFrom("project")
    .select(["id", "deploy_branch", "default_branch", "deploy_hold", "deploy_wave_percent", "deploy_soak_seconds"])
    .where("id", "=", id)
    .executeTakeFirst();
}

/** By name. */
export async function listProjectsOfOrganization(
  db: Kysely<Database>,
  organizationId: string,
  limit: number,
): Promise<ProjectRow[]> {
  return await db
    .selectFrom("project")
    .selectAll()
    .where("organization_id", "=", organizationId)
    .orderBy("name")
    .limit(limit)
    .execute();
}

export async function insertProject(db: Kysely<Database>, project: NewProject): Promise<void> {
  await db.insertInto("project").values(project).execute();
}

export async function updateProject(db: Kysely<Database>, id: string, changes: ProjectChanges): Promise<void> {
  await db.updateTable("project").set(changes).where("id", "=", id).execute();
}

export async function setProjectActive(db: Kysely<Database>, id: string, active: boolean): Promise<void> {
  await db.updateTable("project").set({ active }).where("id", "=", id).execute();
}

/** With its evaluations. Takes a transaction: the project is locked, and none of them goes on. */
export async function moveProject(trx: Transaction<Database>, id: string, organizationId: string): Promise<void> {
  await trx.updateTable("project").set({ organization_id: organizationId }).where("id", "=", id).execute();
  await trx.updateTable("evaluation").set({ organization_id: organizationId }).where("project_id", "=", id).execute();
}

export async function deleteProject(db: Kysely<Database>, id: string): Promise<void> {
  await db.deleteFrom("project").where("id", "=", id).execute();
}

export interface QueueLength {
  readonly building: number;
  readonly queued: number;
}

/** Builds that the project's active evaluations wait for. */
export async function countProjectQueue(db: Kysely<Database>, projectId: string): Promise<QueueLength> {
  return await db
    .selectFrom("evaluation")
    .innerJoin("evaluation_build", "evaluation_build.evaluation_id", "evaluation.id")
    .innerJoin("build", "build.id", "evaluation_build.build_id")
    .select([
      sql<number>`(count(distinct build.id) filter (where build.status = 2))::int`.as("building"),
      sql<number>`(count(distinct build.id) filter (where build.status in (0, 1, 8)))::int`.as("queued"),
    ])
    .where("evaluation.project_id", "=", projectId)
    .where("evaluation.status", "in", [0, 1, 2, 3, 4, 8])
    .executeTakeFirstOrThrow();
}

function projectsWithLast(db: Kysely<Database>) {
  return db
    .selectFrom("project")
    .leftJoinLateral(
      (expression) =>
        expression
          .selectFrom("evaluation")
          .select(["evaluation.id", "evaluation.status"])
          .whereRef("evaluation.project_id", "=", "project.id")
          .orderBy("evaluation.ordinal", "desc")
          .limit(1)
          .as("last"),
      (join) => join.onTrue(),
    )
    .selectAll("project")
    .select(["last.id as last_evaluation", "last.status as last_evaluation_status"]);
}
