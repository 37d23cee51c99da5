import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

export interface CommitRow {
  readonly organization_id: string;
  readonly commit_hash: string;
  readonly commit_message: string;
  readonly commit_author: string;
}

/** Beyond these nobody looks: whoever may see one of them finds it among the first. */
const ORGANIZATIONS_MAX = 100;

/**
 * Commits whose hash begins with these 32 digits, once for each organization that evaluated one: first those that are
 * public or that the user is a member of. Where several evaluations know it, the words of one that read it.
 */
export async function listCommits(db: Kysely<Database>, prefix: string, userId: string | null): Promise<CommitRow[]> {
  const { rows } = await sql<CommitRow>`
    select organization_id, commit_hash, commit_message, commit_author from (
      select distinct on (e.organization_id) e.organization_id, e.commit_hash, e.commit_message, e.commit_author
      from evaluation e where left(e.commit_hash, 32) = ${prefix}
      order by e.organization_id, e.commit_message = '', e.ordinal desc) known
    join organization o on o.id = known.organization_id
    order by o.public or exists (
      select from organization_member m where m.organization_id = o.id and m.user_id = ${userId}::uuid) desc
    limit ${ORGANIZATIONS_MAX}`.execute(db);
  return rows;
}
