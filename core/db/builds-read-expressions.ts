import { type RawBuilder, sql } from "kysely";

// Expressions for queries that have `evaluation_build` and `build` in scope; some need more, as they say.

/** The status that a link shows: what the ended evaluation saw, else what the build is now. Created shows as Queued. */
export const shownBuildStatus: RawBuilder<number> = sql<number>`
  greatest(coalesce(evaluation_build.outcome, build.status), 1)`;

/**
 * Joins `attempt`: the one that the ended evaluation saw, else the newest of the build. A build that never ran in an
 * evaluation that ended (a dependency failed, it was substituted) has none.
 */
export const attemptOfLink: RawBuilder<boolean> = sql<boolean>`attempt.id = case
  when evaluation_build.attempt_id is not null or evaluation_build.outcome is not null
    then evaluation_build.attempt_id
  else (
    select newest.id from attempt newest where newest.build_id = evaluation_build.build_id
    order by newest.assigned_at desc, newest.id desc limit 1
  ) end`;

/** Of the joined `attempt`: how long it ran; null while it runs. Never below 0, whatever the clock did. */
export const attemptMs: RawBuilder<number | null> = sql<number | null>`
  greatest((extract(epoch from attempt.finished_at - coalesce(attempt.started_at, attempt.assigned_at)) * 1000)::bigint,
    case when attempt.finished_at is not null then 0 end)`;

/** Whether the link's build offers files: those of its last success, which a link that saw it fail does not show. */
export const hasProducts: RawBuilder<boolean> = sql<boolean>`(${shownBuildStatus} in (3, 7)
  and exists (select from build_product where build_product.build_id = evaluation_build.build_id))`;

/** Needs the joined `evaluation`. What happened to the build after the evaluation ended does not count. */
export const shownUpdatedAt: RawBuilder<Date> = sql<Date>`case
  when evaluation_build.outcome is null then build.updated_at
  else least(build.updated_at, evaluation.finished_at) end`;
