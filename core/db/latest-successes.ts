import { type Kysely, type RawBuilder, sql } from "kysely";
import type { Database } from "./schema.ts";

/**
 * The newest evaluation of each project in which each attribute was built, whatever newer ones came to: one row an
 * attribute with `project_id`, `attribute`, `evaluation_id`, `link_id`, `build_id` and `lasting`. Evaluations of what
 * is not trusted and recoveries do not count. `projects` compares a project's id.
 *
 * It is `lasting` unless the attribute is gone: newer trusted evaluations that were evaluated whole have neither the
 * attribute nor an error about it.
 *
 * With `deployBranch` of systems of hosts alone, as if there were only what was evaluated of that branch for them.
 */
export function latestSuccesses(
  projects: RawBuilder<unknown>,
  { deployBranch = null }: { readonly deployBranch?: string | null } = {},
): RawBuilder<unknown> {
  const isOfBranch = (evaluation: string) =>
    deployBranch === null
      ? sql`true`
      : sql`(${sql.ref(`${evaluation}.branch`)} = ${deployBranch} and ${sql.ref(`${evaluation}.deploys`)})`;
  const isWanted = deployBranch === null ? sql`true` : sql`p.attribute[1] = 'nixosConfigurations'`;
  return sql`
    select s.project_id, s.attribute, s.evaluation_id, s.link_id, s.build_id, (
      exists (
        select from evaluation n
        where n.project_id = s.project_id and n.ordinal > s.ordinal and ${isWhole} and ${isOfBranch("n")}
          and (exists (select from entry_point m where m.evaluation_id = n.id and m.attribute = s.attribute)
            or exists (select from evaluation_message m
              where m.evaluation_id = n.id and m.level = 0 and m.attribute = s.attribute)))
      or not exists (
        select from evaluation n
        where n.project_id = s.project_id and n.ordinal > s.ordinal and ${isWhole} and ${isOfBranch("n")})
    ) as lasting
    from (
      select distinct on (e.project_id, p.attribute) e.project_id, p.attribute, e.ordinal, e.id as evaluation_id,
        l.id as link_id, p.build_id
      from evaluation e
      join entry_point p on p.evaluation_id = e.id
      join evaluation_build l on l.evaluation_id = e.id and l.build_id = p.build_id
      join build b on b.id = p.build_id
      where e.project_id ${projects} and e.trusted and e.kind <> 2 and coalesce(l.outcome, b.status) in (3, 7)
        and ${isOfBranch("e")} and ${isWanted}
      order by e.project_id, p.attribute, e.ordinal desc
    ) s`;
}

/** The evaluation `n` says what there is: it is trusted, and everything that it was to evaluate was. */
const isWhole = sql`(n.trusted and n.kind <> 2 and n.building_started_at is not null)`;

export interface LatestSuccess {
  readonly attribute: string[];
  readonly evaluation_id: string;
  /** What the API calls the build. */
  readonly link_id: string;
  readonly drv_path: string;
  readonly commit_hash: string;
  readonly created_at: Date;
}

/** Of a project, by attribute; one attribute, or all of them up to `limit`. */
export async function listLatestSuccesses(
  db: Kysely<Database>,
  projectId: string,
  { attribute, limit }: { readonly attribute: readonly string[] | null; readonly limit: number },
): Promise<LatestSuccess[]> {
  const { rows } = await sql<LatestSuccess>`
    select s.attribute, s.evaluation_id, s.link_id, b.drv_path, e.commit_hash, e.created_at
    from (${latestSuccesses(sql`= ${projectId}`)}) s
    join build b on b.id = s.build_id
    join evaluation e on e.id = s.evaluation_id
    where s.lasting and (${attribute === null} or s.attribute = ${attribute ?? []}::text[])
    order by s.attribute limit ${limit}`.execute(db);
  return rows;
}
