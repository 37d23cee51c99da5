import { type Kysely, sql } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { AttemptReason, BuildStatus, EvaluationStatus } from "#core/domain/states.ts";
import { concatBytes, fromUtf8 } from "#core/lib/bytes.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { SimulatedDerivation, SimulatedFlake, Universe } from "./flake.ts";
import type { Losses } from "./losses.ts";
import { ENDED } from "./people.ts";

export interface OutcomeFacts {
  readonly universe: Universe;
  readonly flakes: ReadonlyMap<string, SimulatedFlake>;
  readonly aborted: ReadonlySet<string>;
  /** As `organization id/derivation`. */
  readonly abortedBuilds: ReadonlySet<string>;
  readonly losses: Losses;
  readonly blobs: ReadonlyMap<string, Uint8Array>;
  readonly logs: ReadonlyMap<string, string>;
  readonly acknowledged: ReadonlySet<string>;
}

const { Completed, Substituted, FailedPermanent, FailedTimeout, DependencyFailed, Aborted } = BuildStatus;
/** What had vanished while it was evaluated. */
const VANISHED = /no longer available/;
const SUCCESS: readonly number[] = [Completed, Substituted];

/** Once everything is over: throws unless each evaluation came to what its flake says, and nothing got lost. */
export async function checkOutcome(db: Kysely<Database>, facts: OutcomeFacts): Promise<void> {
  const expected = await expectations(db, facts);
  const evaluations = await db
    .selectFrom("evaluation")
    .select(["id", "organization_id", "status", "failure", "commit_hash", "fetch_started_at"])
    .orderBy("ordinal")
    .execute();
  for (const evaluation of evaluations) {
    const { id, status, failure, commit_hash } = evaluation;
    const problem = (text: string) => new Error(`evaluation ${id} (status ${status}): ${text}`);
    if (!ENDED.includes(status)) throw problem("it has not ended");
    if (status === EvaluationStatus.Aborted) {
      if (!facts.aborted.has(id)) throw problem("nobody aborted it");
      continue;
    }
    const flake = facts.flakes.get(commit_hash) as SimulatedFlake;
    if (failure !== null) {
      const isRight = flake.broken && failure === "the flake is broken";
      const vanished = facts.losses.paths.size > 0 && VANISHED.test(failure);
      if (!isRight && !vanished && !/workers were lost/.test(failure)) throw problem(failure);
      continue;
    }
    await checkEvaluation(db, {
      id,
      status,
      flake,
      expected: expected(evaluation.organization_id),
      isRestart: evaluation.fetch_started_at === null,
      problem,
    });
  }
  await checkStored(db, facts);
  await checkLogs(db, facts);
}

async function checkEvaluation(
  db: Kysely<Database>,
  {
    id,
    status,
    flake,
    expected,
    isRestart,
    problem,
  }: {
    readonly id: string;
    readonly status: number;
    readonly flake: SimulatedFlake;
    readonly expected: Expectations;
    readonly isRestart: boolean;
    readonly problem: (text: string) => Error;
  },
): Promise<void> {
  const links = await db
    .selectFrom("evaluation_build")
    .innerJoin("build", "build.id", "evaluation_build.build_id")
    .select(["drv_path", "name", "outcome"])
    .where("evaluation_id", "=", id)
    .execute();
  // Who restarts one build of an evaluation that was aborted, or failed as a whole, leaves the others as they were.
  const inherited = isRestart ? [Aborted, DependencyFailed] : [];
  for (const { drv_path, name, outcome } of links) {
    const right = [...(expected.get(drv_path) ?? []), ...inherited];
    if (outcome === null || !right.includes(outcome)) throw problem(`${name} came to ${outcome}, not to ${right}`);
  }
  const messages = await db
    .selectFrom("evaluation_message")
    .select(["level", "message"])
    .where("evaluation_id", "=", id)
    .execute();
  const errors = messages.filter(({ level }) => level === 0);
  const failed = errors.length > 0 || links.some(({ outcome }) => !SUCCESS.includes(outcome ?? -1));
  if (failed !== (status === EvaluationStatus.Failed))
    throw problem(`its builds say ${failed ? "failed" : "completed"}`);
  if (isRestart) return;
  const warnings = new Set(messages.filter(({ level }) => level === 1).map(({ message }) => message));
  if (warnings.size !== flake.warnings) throw problem(`${warnings.size} of ${flake.warnings} warnings were recorded`);
  if (flake.broken) throw problem("its flake is broken, and nobody noticed");
  const points = await db.selectFrom("entry_point").select("attribute").where("evaluation_id", "=", id).execute();
  if (points.length !== flake.attributes.length) {
    throw problem(`${points.length} of ${flake.attributes.length} attributes were recorded`);
  }
}

type Expectations = ReadonlyMap<string, readonly number[]>;

/** By organization, and in it by base name of the derivation's path, what a build may come to. */
async function expectations(
  db: Kysely<Database>,
  { universe, abortedBuilds }: OutcomeFacts,
): Promise<(organizationId: string) => Expectations> {
  // What ten workers died of is given up, whatever it is; so is what was begun too often without its inputs.
  const given = await sql<{ organization_id: string; drv_path: string }>`
    select b.organization_id, b.drv_path from attempt a join build b on b.id = a.build_id
    where a.reason in (${AttemptReason.Network}, ${AttemptReason.InputsUnavailable})
    group by b.id having count(*) filter (where a.reason = ${AttemptReason.Network}) >= 10
      or count(*) filter (where a.reason = ${AttemptReason.InputsUnavailable}) > 0`.execute(db);
  const known = new Map<string, Expectations>();
  return (organizationId) => {
    const own = given.rows.filter((row) => row.organization_id === organizationId);
    const givenUp = new Set(own.map(({ drv_path }) => drv_path));
    const isAborted = (drvPath: string) => abortedBuilds.has(`${organizationId}/${drvPath}`);
    const found = known.get(organizationId) ?? expectationsOf(universe, givenUp, isAborted);
    known.set(organizationId, found);
    return found;
  };
}

function expectationsOf(
  universe: Universe,
  givenUp: ReadonlySet<string>,
  isAborted: (drvPath: string) => boolean,
): Expectations {
  const result = new Map<string, readonly number[]>();
  const key = (path: StorePath) => path.slice("/nix/store/".length);
  for (const derivation of universe.derivations.values()) {
    const name = key(derivation.drvPath);
    const own: number[] = [...ownEnds(derivation)];
    if (givenUp.has(name)) own.push(FailedPermanent);
    if (isAborted(name)) own.push(Aborted);
    const below = [...derivation.needs.keys()].map((path) => result.get(key(path)) as readonly number[]);
    const mayFail = below.some((ends) => ends.some((end) => !SUCCESS.includes(end)));
    const mustFail = below.some((ends) => !ends.some((end) => SUCCESS.includes(end)));
    if (mustFail) result.set(name, isAborted(name) ? [DependencyFailed, Aborted] : [DependencyFailed]);
    else result.set(name, mayFail ? [...own, DependencyFailed] : own);
  }
  return result;
}

function ownEnds({ ends }: SimulatedDerivation): readonly number[] {
  const last = ends.at(-1);
  if (last === null) return SUCCESS;
  return last === "timeout" ? [FailedTimeout] : [FailedPermanent];
}

async function checkStored(db: Kysely<Database>, { blobs, losses }: OutcomeFacts): Promise<void> {
  const nars = await db.selectFrom("nar").select(["object_key", "file_size", "damaged_at"]).execute();
  for (const { object_key, file_size, damaged_at } of nars) {
    if (losses.removed(object_key)) continue;
    if (damaged_at || blobs.get(object_key)?.length !== file_size) throw new Error(`${object_key} is not stored whole`);
  }
  const lost = [...losses.paths];
  const { rows } = await sql<{ drv_path: string }>`
    select b.drv_path from attempt a join build b on b.id = a.build_id
    where a.outcome = 1 and b.status not in (3, 7) and not exists (
      select from build_output o where o.build_id = b.id and o.store_path = any(${lost}::text[]))`.execute(db);
  if (rows.length > 0) throw new Error(`built, and now no success: ${JSON.stringify(rows)}`);
  const missing = await sql<{ store_path: string }>`
    select o.store_path from build b join build_output o on o.build_id = b.id
    where b.status = 3 and o.store_path <> all(${lost}::text[]) and (not o.available or not exists (
      select from cache_path p where p.store_path = o.store_path))`.execute(db);
  if (missing.rows.length > 0) throw new Error(`completed without outputs: ${JSON.stringify(missing.rows)}`);
}

/** What the simulated builder wrote; the worker adds lines of its own. */
const BUILDERS_LINES = /^\S+ step \d+ x*\n/gm;

/** The log of a result that was taken is whole. */
async function checkLogs(db: Kysely<Database>, { logs, acknowledged }: OutcomeFacts): Promise<void> {
  const attempts = await db.selectFrom("attempt").select("id").where("outcome", "in", [1, 3]).execute();
  const chunks = await db
    .selectFrom("attempt_log_chunk")
    .select(["attempt_id", "byte_start", "data"])
    .orderBy("attempt_id")
    .orderBy("byte_start")
    .execute();
  const stored = Map.groupBy(chunks, ({ attempt_id }) => attempt_id);
  for (const { id } of attempts) {
    const expected = logs.get(id);
    if (expected === undefined) continue;
    const text = fromUtf8(concatBytes((stored.get(id) ?? []).map(({ data }) => data)));
    if ((text.match(BUILDERS_LINES) ?? []).join("") === expected) continue;
    const how = acknowledged.has(id) ? "acknowledged" : "recorded";
    const parts = (stored.get(id) ?? []).map(({ byte_start, data }) => `${byte_start}+${data.length}`).join(" ");
    throw new Error(`attempt ${id} was ${how}, but of its log of ${expected.length} bytes there are ${parts}: ${text}`);
  }
}
