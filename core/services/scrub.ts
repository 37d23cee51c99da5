import type { Kysely } from "kysely";
import { listLastVerified, listNarsToVerify, nextVerificationMs, recordNarVerified } from "../db/nar-health.ts";
import { deleteOldDamages } from "../db/nar-repairs.ts";
import type { Database } from "../db/schema.ts";
import { DAY, SECOND, sleep } from "../lib/clock.ts";
import type { Pace } from "../lib/pace.ts";
import { formatHash } from "../nix/hash.ts";
import { type Nar, narOf } from "./nar.ts";
import { type NarDamage, type NarDamageDeps, reportDamage } from "./nar-damage.ts";
import { NarUnreadError, type NarVerifyDeps, verifyNar } from "./nar-verify.ts";
import { requireRightStore, StorageFailedError } from "./right-store.ts";

export interface ScrubDeps extends NarVerifyDeps, NarDamageDeps {
  readonly db: Kysely<Database>;
}

export interface ScrubOptions {
  readonly pace: Pace;
  /** What was verified within it is left alone. */
  readonly intervalMs: number;
}

/** Each file is read once in an interval, and unpacked once in so many. */
const UNPACK_INTERVALS = 4;
const CHUNK = 100;
/** A small file costs a round trip or two. */
const OBJECT_COST_BYTES = 64 * 1024;
const READS_MAX = 3;
/** Objects that are tried before the store counts as failed: one or two more may be bad themselves. */
const OTHERS = 3;
const REREAD_PAUSE_MS: number = 2 * SECOND;
/** What was found and repaired can be looked up for so long. */
const KEEP_DAMAGES_MS: number = 90 * DAY;
const DAMAGES_MAX = 1_000;

/**
 * Verifies NARs that were not read for an interval, those first that wait longest, until none is left or the signal is
 * aborted. What is damaged is taken out of service. When it was verified last is all there is to remember, so that it
 * goes on where it was after a crash, on any server; two at a time only do some of it twice. Throws
 * `StorageFailedError`, and what the database throws.
 */
export async function scrubDue(deps: ScrubDeps, options: ScrubOptions, signal: AbortSignal): Promise<void> {
  const { intervalMs } = options;
  for (;;) {
    const age = { intervalMs, unpackIntervalMs: UNPACK_INTERVALS * intervalMs };
    const due = await listNarsToVerify(deps.db, { ...age, limit: CHUNK });
    for (const row of due) {
      if (signal.aborted) return;
      await options.pace.take(Math.max(0, OBJECT_COST_BYTES - row.file_size), signal);
      await verifyAndRecord(deps, narOf(row), { unpack: row.unpack_due, pace: options.pace, signal });
    }
    if (due.length < CHUNK || signal.aborted) break;
  }
  while (!signal.aborted && (await deleteOldDamages(deps.db, { ageMs: KEEP_DAMAGES_MS, limit: DAMAGES_MAX })) > 0);
}

/** How long there is nothing to do: 0 when something is due, null when there is no NAR at all. */
export async function msUntilScrub({ db }: Pick<ScrubDeps, "db">, intervalMs: number): Promise<number | null> {
  const ms = await nextVerificationMs(db, intervalMs);
  return ms === null ? null : Math.max(0, ms);
}

/**
 * Verifies one NAR and records what came of it. A store that fails for it is asked again; when it goes on failing for
 * this object while it gives out another, the object is unreadable and is out of service, too. Returns what is wrong,
 * or null; null as well where it was stopped. Throws `StorageFailedError`.
 */
export async function verifyAndRecord(
  deps: ScrubDeps,
  nar: Nar,
  options: { readonly unpack: boolean; readonly pace?: Pace; readonly signal: AbortSignal },
): Promise<NarDamage | null> {
  const damage = await verifyPatiently(deps, nar, options);
  if (damage === "stopped") return null;
  // What has been replaced or removed since it was listed is damaged for nobody.
  if (damage) return (await reportDamage(deps, nar, damage)) ? damage : null;
  const object = { narHash: nar.narHash.digest, objectKey: nar.objectKey };
  await recordNarVerified(deps.db, { ...object, unpacked: options.unpack });
  return null;
}

async function verifyPatiently(
  deps: ScrubDeps,
  nar: Nar,
  options: { readonly unpack: boolean; readonly pace?: Pace; readonly signal: AbortSignal },
): Promise<NarDamage | "stopped" | null> {
  for (let read = 1; ; read++) {
    try {
      const damage = await verifyNar(deps, nar, options);
      if (damage?.fault === "missing") await requireRightStore(deps);
      return damage;
    } catch (error) {
      if (options.signal.aborted) return "stopped";
      if (!(error instanceof NarUnreadError)) throw error;
      const hash = formatHash(nar.narHash, "nix32");
      deps.log.warn("a stored NAR could not be read", { narHash: hash, objectKey: nar.objectKey, error });
      if (read < READS_MAX) {
        await sleep(deps.clock, REREAD_PAUSE_MS, options.signal);
        continue;
      }
      const message = await blameObject(deps, nar, { ...options, failure: error });
      return message === null ? "stopped" : { fault: "unreadable", message };
    }
  }
}

/** The message for an object that cannot be read while others can; null where it was stopped. */
async function blameObject(
  deps: ScrubDeps,
  nar: Nar,
  { failure, pace, signal }: { readonly failure: NarUnreadError; readonly pace?: Pace; readonly signal: AbortSignal },
): Promise<string | null> {
  for (const other of await listLastVerified(deps.db, nar.narHash.digest, OTHERS)) {
    try {
      const damage = await verifyNar(deps, narOf(other), { unpack: false, signal, ...(pace && { pace }) });
      if (damage === null) return `the store gives out others, and fails for this one: ${failure.message}`;
    } catch (error) {
      if (!(error instanceof NarUnreadError)) throw error;
    }
    if (signal.aborted) return null;
  }
  throw new StorageFailedError(`the store cannot be read: ${failure.message}`, { cause: failure });
}
