import type { Kysely } from "kysely";
import { type InstanceFigures, loadInstanceFigures } from "../db/instance-figures.ts";
import { foldMetricCounts, loadMetricCounts } from "../db/metric-counts.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import {
  ACTIVE_EVALUATION,
  BuildStatus,
  buildStatusName,
  EvaluationStatus,
  evaluationStatusName,
  OPEN_BUILD,
} from "../domain/states.ts";
import type { NarTraffic } from "./traffic.ts";

/** By the name of the state. Each state has a number, if it is 0. */
type ByStatus = readonly (readonly [status: string, count: number])[];

/** What is told of the whole instance, by any of its servers alike. */
export interface InstanceMetrics extends Omit<InstanceFigures, "openBuilds" | "openEvaluations"> {
  readonly openBuilds: ByStatus;
  readonly openEvaluations: ByStatus;
  /** Since the beginning: one that ends, is tried again and ends, counts twice. */
  readonly endedBuilds: ByStatus;
  readonly endedEvaluations: ByStatus;
  /** Builds that a worker may take, and evaluations that wait for one. */
  readonly jobsPending: number;
  readonly narRequestsSent: number;
  readonly narBytesSent: number;
}

const ENDED_BUILD = Object.values(BuildStatus).filter((status) => !OPEN_BUILD.includes(status));
const ENDED_EVALUATION = Object.values(EvaluationStatus).filter((status) => !ACTIVE_EVALUATION.includes(status));

/** A few look-ups in partial indexes and in folded counts, however large the instance is. */
export async function measureInstance({
  db,
  traffic,
}: {
  readonly db: Kysely<Database>;
  readonly traffic: Pick<NarTraffic, "flush">;
}): Promise<InstanceMetrics> {
  // What is told must never be more than what another server tells a moment later.
  await traffic.flush();
  const counts = await loadMetricCounts(db);
  const { openBuilds, openEvaluations, ...figures } = await loadInstanceFigures(db);
  const ended = (kind: string) => (status: number) => counts.get(`${kind}.${status}`) ?? 0;
  return {
    ...figures,
    openBuilds: OPEN_BUILD.map((status) => [buildStatusName(status), openBuilds.get(status) ?? 0]),
    openEvaluations: ACTIVE_EVALUATION.map((status) => [
      evaluationStatusName(status),
      openEvaluations.get(status) ?? 0,
    ]),
    endedBuilds: ENDED_BUILD.map((status) => [buildStatusName(status), ended("build")(status)]),
    endedEvaluations: ENDED_EVALUATION.map((status) => [evaluationStatusName(status), ended("evaluation")(status)]),
    jobsPending: (openBuilds.get(BuildStatus.Queued) ?? 0) + (openEvaluations.get(EvaluationStatus.Queued) ?? 0),
    narRequestsSent: counts.get("nar.requests") ?? 0,
    narBytesSent: counts.get("nar.bytes") ?? 0,
  };
}

/** Keeps the table of counts small. */
export async function tidyMetricCounts({ db }: { readonly db: Kysely<Database> }, signal: AbortSignal): Promise<void> {
  for (let more = true; more && !signal.aborted; ) more = await inTransaction(db, foldMetricCounts);
}
