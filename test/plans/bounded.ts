/** Tables that may be read whole, each with what keeps it small. */
const BOUNDED: Readonly<Record<string, string>> = {
  scheduler_state: "one row",
  scrub_state: "one row",
  server: "a row for each server of the instance",
  base_worker: "declared in the state file",
  integrity_count: "a row for each kind of fault",
  admin_task: "the last hundred are kept",
  metric_count: "folded every minute, to a row for each name",
  cache_history: "the spans of a diagram for each cache",
  cache_usage: "folded to a hundred rows for each cache",
  action_watch: "evaluations that go on, and those that ended a moment ago",
  output_loss: "a queue: what vanished and is not dealt with yet",
  recovery_need: "what waits to be recovered just now",
  retention_sweep: "the sweeps of thirty days",
  nar_damage: "a row for each NAR that was ever found damaged",
};

export const BOUNDED_TABLES: ReadonlySet<string> = new Set(Object.keys(BOUNDED));
