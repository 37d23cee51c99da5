import { TRIGGER_TYPES, type TriggerConfig, type TriggerTypeName } from "../api/triggers.ts";
import type { StoredTriggerConfig } from "../db/tables/triggers.ts";
import type { DueTime } from "../db/triggers.ts";
import { CronError, nextCronTime, parseCron } from "../domain/cron.ts";
import { DomainError } from "../errors.ts";
import { assert } from "../lib/assert.ts";
import { HOUR, SECOND } from "../lib/clock.ts";
import { isBranchName } from "./projects-rules.ts";

/** Polls of many projects that were made at once do not stay together. */
const JITTER = 0.1;
const BACKOFF_MS: number = 30 * SECOND;
const BACKOFF_MS_MAX: number = 1 * HOUR;

/** Throws `bad_request` for a schedule that is none, and for a branch that git would not take. */
export function checkTriggerConfig(config: TriggerConfig): void {
  if (config.type === "time") schedule(config.cron);
  if (config.type === "polling" && config.branch !== null && !isBranchName(config.branch)) {
    throw new DomainError("bad_request", "config.branch: write a branch's name, of letters, digits and ._/+@#%=-");
  }
}

export function triggerTypeName(type: number): TriggerTypeName {
  const name = TRIGGER_TYPES[type];
  assert(name !== undefined, `no type of trigger has the number ${type}`);
  return name;
}

export function triggerTypeNumber(type: TriggerTypeName): number {
  return TRIGGER_TYPES.indexOf(type);
}

/** As it is stored: its keys in the order of the API, so that equal settings are equal text. */
export function storedConfig({ type: _, ...config }: TriggerConfig): StoredTriggerConfig {
  return config;
}

/** Rows hold what `checkTriggerConfig` let through. */
export function configOf(row: { readonly type: number; readonly config: StoredTriggerConfig }): TriggerConfig {
  return { type: triggerTypeName(row.type), ...row.config } as TriggerConfig;
}

/** When a trigger is looked at first. */
export function firstDue(config: TriggerConfig, nowMs: number): DueTime {
  switch (config.type) {
    case "polling":
      return { inMs: 0 };
    case "time":
      return nextTime(config.cron, nowMs);
    case "reporter_push":
    case "reporter_pull_request":
      return null;
  }
}

/** When it is looked at again after it went well. `fraction` is from 0 to below 1, by chance. */
export function nextDue(config: TriggerConfig, nowMs: number, fraction: number): DueTime {
  if (config.type !== "polling") return firstDue(config, nowMs);
  return { inMs: Math.round(config.interval_secs * SECOND * (1 + JITTER * fraction)) };
}

/**
 * After the repository could not be looked at for the `failures`th time in a row: later and later, up to an hour or the
 * interval. A time that was missed is caught up as soon as the repository answers, unless the next one comes before.
 */
export function retryDue(config: TriggerConfig, nowMs: number, failures: number, fraction: number): DueTime {
  const backoff = Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** Math.min(failures - 1, 20)) * (1 + JITTER * fraction);
  if (config.type === "polling") return { inMs: Math.round(Math.max(backoff, config.interval_secs * SECOND)) };
  if (config.type !== "time") return null;
  const next = nextCronTime(schedule(config.cron), nowMs);
  const at = nowMs + backoff;
  return { at: new Date(next === null ? at : Math.min(at, next)) };
}

function nextTime(cron: string, nowMs: number): DueTime {
  const next = nextCronTime(schedule(cron), nowMs);
  return next === null ? null : { at: new Date(next) };
}

function schedule(cron: string) {
  try {
    return parseCron(cron);
  } catch (error) {
    if (error instanceof CronError) throw new DomainError("bad_request", `config.cron: ${error.message}`);
    throw error;
  }
}
