import { CompiledQuery, type Kysely, sql } from "kysely";
import type { Database } from "#core/db/schema.ts";

export interface Statement {
  readonly text: string;
  readonly parameters: readonly unknown[];
}

/**
 * To look at each entry of an index costs 0.005 and more, and there are two million: a condition that leaves out the
 * index's first column narrows nothing.
 */
const WHOLE_COST = 8_000;

interface Plan {
  readonly "Node Type": string;
  readonly "Total Cost": number;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Index Cond"?: string;
  readonly Plans?: readonly Plan[];
}

/** Whether a plan can be asked for. */
export function isExplained(text: string): boolean {
  return /^\s*(?:select|with|insert|update|delete|\()/i.test(text);
}

/** Indexes of some rows only: who reads one whole reads no more than those. */
export async function listPartialIndexes(db: Kysely<Database>): Promise<Set<string>> {
  const { rows } = await sql<{ name: string }>`
    select indexrelid::regclass::text as name from pg_index where indpred is not null`.execute(db);
  return new Set(rows.map(({ name }) => name));
}

/**
 * The tables that a statement reads from one end to the other, with or without an index, unless it stops after some
 * rows of an index's order.
 */
export async function findScans(
  db: Kysely<Database>,
  { text, parameters }: Statement,
  partial: ReadonlySet<string>,
): Promise<string[]> {
  const { rows } = await db.executeQuery<{ "QUERY PLAN": readonly { readonly Plan: Plan }[] }>(
    CompiledQuery.raw(`explain (format json) ${text}`, [...parameters]),
  );
  return rows.flatMap((row) => row["QUERY PLAN"].flatMap(({ Plan }) => scansOf(Plan, partial, false)));
}

function scansOf(plan: Plan, partial: ReadonlySet<string>, stopsEarly: boolean): string[] {
  const type = plan["Node Type"];
  const table = plan["Relation Name"] ?? plan["Index Name"] ?? "";
  const isNarrow = "Index Cond" in plan && plan["Total Cost"] < WHOLE_COST;
  const isSought = stopsEarly || isNarrow || partial.has(plan["Index Name"] ?? "");
  const isWhole = type.endsWith("Seq Scan") || (/Index.* Scan$/.test(type) && !isSought);
  // What sorts or sums has read everything before anybody stops it.
  const stops = type === "Limit" || (stopsEarly && !/^(?:Sort|Aggregate|Hash)/.test(type));
  return [...(isWhole ? [table] : []), ...(plan.Plans ?? []).flatMap((inner) => scansOf(inner, partial, stops))];
}
