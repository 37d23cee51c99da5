import { type Expression, type Kysely, type SqlBool, sql } from "kysely";
import { DAY, HOUR } from "../lib/clock.ts";
import type { Database } from "./schema.ts";
import type { UpstreamPathRow } from "./tables/upstreams.ts";
import { databaseNow } from "./time.ts";

/** How long an upstream's word is taken that it has a path. */
export const FOUND_MS: number = DAY;
/** How long it counts that it did not have one. */
const MISSED_MS: number = HOUR;
/** How long it is kept what an upstream had, though it has to be asked again before it counts. */
const KEPT_MS: number = 30 * DAY;
/**
 * How long what an evaluation was told holds while it goes on: what was recorded at its start still proves what its
 * last batch rests on.
 */
const PROOF_MS: number = FOUND_MS + 2 * HOUR;

/** What an upstream says of a path that it has. */
export type FoundUpstreamPath = Omit<UpstreamPathRow, "found" | "seen_at"> & {
  readonly store_path: string;
  readonly url: string;
  readonly compression: string;
  readonly nar_hash: Uint8Array;
  readonly nar_size: number;
  readonly references: string[];
};

/** Null: it has no path of this hash. */
export type UpstreamAnswer = FoundUpstreamPath | { readonly upstream_id: string; readonly hash: string };

const COLUMNS = [
  "upstream_id",
  "hash",
  "store_path",
  "url",
  "compression",
  "file_hash",
  "file_hash_algorithm",
  "file_size",
  "nar_hash",
  "nar_size",
  "references",
  "deriver",
  "ca",
  "signatures",
  "signed",
] as const;

/** Answers that still count, found and not found. */
export async function listRecordedPaths(
  db: Kysely<Database>,
  { upstreamIds, hashes }: { readonly upstreamIds: readonly string[]; readonly hashes: readonly string[] },
): Promise<Omit<UpstreamPathRow, "seen_at">[]> {
  return await db
    .selectFrom("upstream_path")
    .select([...COLUMNS, "found"])
    .where(isAnyOf("upstream_id", upstreamIds, "uuid"))
    .where(isAnyOf("hash", hashes, "text"))
    .where(isYounger(sql`case when found then ${FOUND_MS}::int else ${MISSED_MS}::int end`))
    .execute();
}

/**
 * Which paths the upstreams of these caches have, as it was recorded a short while ago, and of which cache they are
 * upstreams. The path is named too: the caller compares the whole of it. `locked`: a loss waits for the transaction, so
 * that it finds what rests on these.
 */
export async function listUpstreamProofs(
  db: Kysely<Database>,
  {
    cacheIds,
    hashes,
    locked = false,
  }: { readonly cacheIds: readonly string[]; readonly hashes: readonly string[]; readonly locked?: boolean },
): Promise<{ cache_id: string; store_path: string | null }[]> {
  return await db
    .selectFrom("upstream_path")
    .innerJoin("cache_upstream", "cache_upstream.id", "upstream_path.upstream_id")
    .select(["cache_upstream.cache_id", "upstream_path.store_path"])
    .where(isAnyOf("cache_upstream.cache_id", cacheIds, "uuid"))
    .where("cache_upstream.mode", "in", [0, 1])
    .where(isAnyOf("upstream_path.hash", hashes, "text"))
    .where("upstream_path.found", "=", true)
    .where(isYounger(sql`${PROOF_MS}::int`))
    .$if(locked, (query) =>
      query.orderBy("upstream_path.upstream_id").orderBy("upstream_path.hash").forShare("upstream_path"),
    )
    .execute();
}

/** As `listUpstreamProofs`, whatever the age of the word: what the upstreams were last heard to have. */
export async function listUpstreamPaths(
  db: Kysely<Database>,
  { cacheIds, hashes }: { readonly cacheIds: readonly string[]; readonly hashes: readonly string[] },
): Promise<{ cache_id: string; store_path: string | null }[]> {
  return await db
    .selectFrom("upstream_path")
    .innerJoin("cache_upstream", "cache_upstream.id", "upstream_path.upstream_id")
    .select(["cache_upstream.cache_id", "upstream_path.store_path"])
    .where(isAnyOf("cache_upstream.cache_id", cacheIds, "uuid"))
    .where("cache_upstream.mode", "in", [0, 1])
    .where(isAnyOf("upstream_path.hash", hashes, "text"))
    .where("upstream_path.found", "=", true)
    .execute();
}

/** At most 1000 answers a call. What is no longer found keeps what was known of it. */
export async function recordUpstreamAnswers(db: Kysely<Database>, answers: readonly UpstreamAnswer[]): Promise<void> {
  const found = inOrder(answers).filter((answer): answer is FoundUpstreamPath => "store_path" in answer);
  const missed = inOrder(answers).filter((answer) => !("store_path" in answer));
  if (found.length > 0) {
    await db
      .insertInto("upstream_path")
      .values(found.map((answer) => ({ ...answer, found: true })))
      .onConflict((conflict) =>
        conflict.columns(["upstream_id", "hash"]).doUpdateSet((eb) => ({
          found: true,
          seen_at: databaseNow,
          ...Object.fromEntries(COLUMNS.slice(2).map((column) => [column, eb.ref(`excluded.${column}`)])),
        })),
      )
      .execute();
  }
  if (missed.length > 0) {
    await db
      .insertInto("upstream_path")
      .values(missed.map(({ upstream_id, hash }) => ({ upstream_id, hash, found: false })))
      .onConflict((conflict) =>
        conflict.columns(["upstream_id", "hash"]).doUpdateSet({ found: false, seen_at: databaseNow }),
      )
      .execute();
  }
}

/**
 * Takes out what refers to one of these (base names), without which it is not whole. Answers the base names of what was
 * taken out. Reads all that was seen at the upstream: losses are rare.
 */
export async function missReferrers(
  db: Kysely<Database>,
  upstreamId: string,
  references: readonly string[],
): Promise<string[]> {
  const rows = await db
    .updateTable("upstream_path")
    .set({ found: false, seen_at: databaseNow })
    .where("upstream_id", "=", upstreamId)
    .where("found", "=", true)
    .where(sql<SqlBool>`"references" && ${references}::text[]`)
    .returning("store_path")
    .execute();
  return rows.flatMap(({ store_path }) => store_path ?? []);
}

/** Everything that was seen there: its address or its keys are others now. */
export async function forgetUpstreamPaths(db: Kysely<Database>, upstreamId: string): Promise<void> {
  await db.deleteFrom("upstream_path").where("upstream_id", "=", upstreamId).execute();
}

/** Removes answers "not found" that count no more, and finds that nobody asked about for long. */
export async function deleteStaleAnswers(db: Kysely<Database>): Promise<void> {
  await sql`
    delete from upstream_path
    where (found and seen_at < ${databaseNow} - ${KEPT_MS}::bigint * interval '1 millisecond')
      or (not found and seen_at < ${databaseNow} - ${MISSED_MS}::bigint * interval '1 millisecond')
  `.execute(db);
}

/** Two that record the same rows never wait for each other in a ring. */
function inOrder(answers: readonly UpstreamAnswer[]): UpstreamAnswer[] {
  const key = ({ upstream_id, hash }: UpstreamAnswer) => `${upstream_id}/${hash}`;
  return [...new Map(answers.map((answer) => [key(answer), answer])).entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, answer]) => answer);
}

function isYounger(milliseconds: Expression<unknown>): Expression<SqlBool> {
  return sql<SqlBool>`seen_at > ${databaseNow} - ${milliseconds} * interval '1 millisecond'`;
}

/** One parameter whatever the length of the list, so that the statement's text stays the same. */
function isAnyOf(column: string, values: readonly string[], type: "uuid" | "text"): Expression<SqlBool> {
  return sql<SqlBool>`${sql.ref(column)} = any(${values}::${sql.raw(type)}[])`;
}
