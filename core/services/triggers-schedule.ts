import type { Transaction } from "kysely";
import type { TriggerConfig } from "../api/triggers.ts";
import type { Database } from "../db/schema.ts";
import { listTriggers, type NewTrigger, rescheduleTrigger } from "../db/triggers.ts";
import { MINUTE } from "../lib/clock.ts";
import { configOf, firstDue, storedConfig, triggerTypeNumber } from "./triggers-rules.ts";

/** More ways to begin an evaluation nobody has. */
export const TRIGGERS_MAX = 64;

/** Who makes a project and evaluates it by the next call finds nothing in progress. */
const FIRST_LOOK_MS: number = 1 * MINUTE;
const EVERY_FIVE_MINUTES: TriggerConfig = { type: "polling", interval_secs: 300, branch: null };

/** What a new project gets. */
export function firstTrigger(id: string, projectId: string): NewTrigger {
  return {
    id,
    project_id: projectId,
    type: triggerTypeNumber("polling"),
    config: storedConfig(EVERY_FIVE_MINUTES),
    active: true,
    due: { inMs: FIRST_LOOK_MS },
  };
}

/** A project that is switched on begins anew: times that passed meanwhile are not caught up. */
export async function rescheduleTriggers(trx: Transaction<Database>, projectId: string, nowMs: number): Promise<void> {
  for (const row of await listTriggers(trx, projectId, TRIGGERS_MAX)) {
    await rescheduleTrigger(trx, row.id, firstDue(configOf(row), nowMs));
  }
}
