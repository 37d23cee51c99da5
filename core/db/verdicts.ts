import { type Kysely, sql, type Transaction } from "kysely";
import type { Verdict } from "../domain/verdict.ts";
import { jsonbText } from "./json-text.ts";
import type { Database } from "./schema.ts";

/**
 * What the evaluation `e` is compared with: the last trusted one before it that was evaluated of another commit (an
 * update of inputs: of any commit) and ended as completed or failed.
 */
const baseOfE = sql`(
  select o.id from evaluation o
  where o.project_id = e.project_id and o.ordinal < e.ordinal and o.status in (5, 6)
    and o.kind = 0 and o.trusted and (o.commit_hash <> e.commit_hash or e.kind = 1)
  order by o.ordinal desc limit 1)`;

/**
 * Notes that these evaluations have ended and what each is compared with. In the transaction of the end, so that none
 * is without a verdict.
 */
export async function openVerdicts(trx: Transaction<Database>, evaluationIds: readonly string[]): Promise<void> {
  if (evaluationIds.length === 0) return;
  await sql`
    insert into evaluation_verdict (evaluation_id, base_id)
    select e.id, ${baseOfE} from evaluation e where e.id = any(${evaluationIds}::uuid[])
    on conflict (evaluation_id) do nothing`.execute(trx);
}

/** The same for evaluations that ended before that was noted; answers how many. Reads all evaluations. */
export async function openMissingVerdicts(db: Kysely<Database>, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    insert into evaluation_verdict (evaluation_id, base_id)
    select e.id, ${baseOfE} from evaluation e
    where e.status in (5, 6, 7) and not exists (select from evaluation_verdict v where v.evaluation_id = e.id)
    order by e.ordinal limit ${limit}
    on conflict (evaluation_id) do nothing`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

export interface OpenVerdict {
  /** What it is compared with. */
  readonly base_id: string | null;
  readonly record: Verdict | null;
  /** It ended so long ago that what cannot be read now counts as lost. */
  readonly overdue: boolean;
}

export async function findVerdict(db: Kysely<Database>, evaluationId: string): Promise<OpenVerdict | undefined> {
  const { rows } = await sql<OpenVerdict>`
    select case when v.evaluation_id is null then ${baseOfE} else v.base_id end as base_id, v.record,
      coalesce(e.finished_at < gradient_now() - interval '1 hour', true) as overdue
    from evaluation e left join evaluation_verdict v on v.evaluation_id = e.id
    where e.id = ${evaluationId}`.execute(db);
  return rows[0];
}

/** Ended evaluations whose verdict is not written down, those that wait longest first. */
export async function listOpenVerdicts(
  db: Kysely<Database>,
  { settleMs, limit }: { readonly settleMs: number; readonly limit: number },
): Promise<string[]> {
  const { rows } = await sql<{ evaluation_id: string }>`
    select evaluation_id from evaluation_verdict
    where record is null and ended_at < gradient_now() - ${settleMs} * interval '1 millisecond'
    order by ended_at limit ${limit}`.execute(db);
  return rows.map((row) => row.evaluation_id);
}

/** Writes a verdict down, once: of two at the same time the first one stands. */
export async function writeVerdict(db: Kysely<Database>, evaluationId: string, record: Verdict): Promise<void> {
  await sql`
    update evaluation_verdict set record = ${jsonbText(record)}::jsonb
    where evaluation_id = ${evaluationId} and record is null`.execute(db);
}

/** Tries again later: others come first. */
export async function postponeVerdict(db: Kysely<Database>, evaluationId: string): Promise<void> {
  await sql`
    update evaluation_verdict set ended_at = gradient_now()
    where evaluation_id = ${evaluationId} and record is null`.execute(db);
}
