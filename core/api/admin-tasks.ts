import * as v from "valibot";
import { nameText } from "./text.ts";

/** `GET /admin/tasks/{id}`. */
export interface AdminTaskView {
  readonly id: string;
  /** `verify` or `repair`, among others. */
  readonly kind: string;
  readonly status: "pending" | "running" | "completed" | "failed" | "cancelled";
  /** It was told to end, and has not yet. */
  readonly cancelling: boolean;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  /** While it runs, and what it was when it ended. */
  readonly progress: Readonly<Record<string, unknown>> | null;
  /** Once it has ended; what was done until then where it was cancelled. */
  readonly report: Readonly<Record<string, unknown>> | null;
  readonly error: string | null;
  /** A user's name. */
  readonly created_by: string | null;
}

/** What begins a task. */
export interface TaskStartedView {
  /** `GET /admin/tasks/{task}` shows it. */
  readonly task_id: string;
  readonly status: "pending";
}

const KIB = 1024;

/** `POST /admin/maintenance/verify`. */
export const VerifyBody = v.object({
  /** A cache's name; absent: everything that is stored. */
  cache: v.optional(nameText),
  /** Whether NARs are unpacked and their own hashes checked; else only the files' are. */
  unpack: v.optional(v.boolean(), true),
  /** Whether what is found damaged is repaired afterwards, as `repair` does. */
  repair: v.optional(v.boolean(), false),
  /** Of files; absent: as fast as it goes. */
  bytes_per_second: v.optional(
    v.pipe(v.number(), v.safeInteger(), v.minValue(64 * KIB, "must be at least 65536 (64 KiB)")),
  ),
});
export type VerifyBody = v.InferOutput<typeof VerifyBody>;

/** One damage in a report. */
export interface DamageView {
  /** `sha256:` and 52 characters. */
  readonly nar_hash: string;
  readonly object: string;
  readonly fault: string;
  readonly message: string;
}

/** `GET /admin/integrity`. */
export interface IntegrityView {
  readonly nars: number;
  /** Of files. */
  readonly bytes: number;
  /** Out of service. */
  readonly damaged: number;
  readonly oldest_verified_at: string | null;
  readonly oldest_unpacked_at: string | null;
  /** When rows were last compared with what the store lists. */
  readonly rows_checked_at: string | null;
  /** Since the beginning. */
  readonly counts: Readonly<Record<string, number>>;
  /** The newest 100. */
  readonly damages: readonly (DamageView & {
    readonly found_at: string;
    readonly state: "damaged" | "repaired" | "removed";
    /** Repairs that were tried in vain. */
    readonly attempts: number;
    readonly problem: string | null;
    readonly repaired_at: string | null;
    readonly repaired_by: string | null;
  })[];
}
