/** What must hold after every committed transition: a query that finds what breaks it. */
const INVARIANTS: Readonly<Record<string, string>> = {
  "a counter differs from the number of unsatisfied edges": `
    select b.drv_path, b.pending_dependencies from build b
    where b.pending_dependencies <> (select count(*) from build_edge e where e.build_id = b.id and not e.satisfied)`,
  "an edge does not say whether the outputs it names are available": `
    select e.* from build_edge e where e.satisfied <> (cardinality(e.outputs) = (
      select count(*) from build_output o
      where o.build_id = e.dependency_id and o.name = any(e.outputs) and o.available))
      and not exists (select from output_loss l where l.build_id = e.dependency_id)`,
  "a build is ready without all it needs, or waits for nothing": `
    select drv_path, status, pending_dependencies from build
    where (status = 1 and pending_dependencies > 0) or (status = 0 and pending_dependencies = 0)`,
  "a build waits for something that will not happen": `
    select b.drv_path, b.status, d.drv_path as dependency, d.status as dependency_status
    from build b join build_edge e on e.build_id = b.id and not e.satisfied join build d on d.id = e.dependency_id
    where b.status in (0, 8) and d.status not in (0, 1, 2, 8)
      and not exists (select from recovery_need n where n.build_id = d.id)`,
  "a build runs without a lease, or has one without running": `
    select b.drv_path, b.status from build b
    where (b.status = 2) <> exists (select from attempt a where a.build_id = b.id and a.finished_at is null)`,
  "an evaluation is evaluated without a lease, or has one without being evaluated": `
    select e.id, e.status from evaluation e
    where (e.status in (8, 1, 2)) <> exists (
      select from attempt a where a.evaluation_id = e.id and a.finished_at is null)`,
  "a subject has two open leases": `
    select build_id, evaluation_id from attempt where finished_at is null
    group by build_id, evaluation_id having count(*) > 1`,
  "an evaluation is building and has nothing open": `
    select e.id from evaluation e
    where (e.status = 3 or (e.status = 4 and e.building_started_at is not null)) and not exists (
      select from evaluation_build l join build b on b.id = l.build_id
      where l.evaluation_id = e.id and l.outcome is null and b.status in (0, 1, 2, 8))`,
  "an ended evaluation has a link that is not frozen, or a frozen one says that it goes on": `
    select l.* from evaluation_build l join evaluation e on e.id = l.evaluation_id
    where (e.status in (5, 6, 7) and l.outcome is null) or l.outcome in (0, 1, 2, 8)`,
  // A build that somebody aborted goes on for others; in this evaluation it and what rests on it are over.
  "a link is frozen before its evaluation has ended, and was not taken out of it": `
    select l.* from evaluation_build l join evaluation e on e.id = l.evaluation_id
    where e.status not in (5, 6, 7) and l.outcome not in (5, 6)`,
  "an evaluation's end has no time, or one that goes on has": `
    select id, status from evaluation where (status in (5, 6, 7)) <> (finished_at is not null)`,
  "a build waits for its next try without a time for it": `
    select drv_path from build where (status = 8) <> (retry_at is not null)`,
  "a row is pruned and expanded": `
    select b.drv_path from build b
    where b.pruned_at is not null and exists (select from build_edge e where e.build_id = b.id)`,
};

/** One column `broken`: what breaks invariants, by invariant, as JSON. Null when nothing does. One question for all. */
export const BROKEN_INVARIANTS: string = `
  select jsonb_object_agg(what, rows) as broken from (
    select what, jsonb_agg(broken) as rows from (${Object.entries(INVARIANTS)
      .map(([what, query]) => `select '${what.replaceAll("'", "''")}' as what, ${fiveRowsOf(query)}`)
      .join(" union all ")}) as found
    group by what) as invariants`;

function fiveRowsOf(query: string): string {
  return `to_jsonb(q) as broken from (select * from (${query}) as r limit 5) as q`;
}

/** Throws for an answer of `BROKEN_INVARIANTS` that names something. */
export function failFor(broken: Readonly<Record<string, unknown>> | null): void {
  if (broken === null) return;
  throw new Error(
    Object.entries(broken)
      .map(([what, rows]) => `${what}: ${JSON.stringify(rows)}`)
      .join("\n"),
  );
}
