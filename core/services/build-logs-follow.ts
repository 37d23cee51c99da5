import { findAttemptOfLink } from "../db/builds-read.ts";
import { isAttemptEnded } from "../db/logs.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { OPEN_BUILD } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import { HOUR, SECOND, sleep } from "../lib/clock.ts";
import { type LogReadDeps, readLogBytes } from "./build-logs-read.ts";
import { requireBuild } from "./builds.ts";
import type { ServiceDeps } from "./deps.ts";
import { WakeUp } from "./evaluations-wake-up.ts";
import { requireStillSignedIn } from "./still-signed-in.ts";

/** What a log is looked at when nobody told that it grew: word may be lost. */
const LOOK_INTERVAL_MS: number = 2 * SECOND;
/** Word comes more often than a reader can use. */
const LOOK_PAUSE_MS = 250;
/** How often a build that has no attempt yet is looked at. */
const ATTEMPT_INTERVAL_MS: number = 2 * SECOND;
/** How often a silent reader gets a sign, and access is decided again. */
const SIGN_INTERVAL_MS: number = 15 * SECOND;
/** The last lines may arrive just after the result: control messages overtake bodies. */
const LATE_LINES_MS: number = 1 * SECOND;
/** Longer than the default time that a build may take (4 hours). */
const STREAM_MS_MAX: number = 6 * HOUR;

export type FollowDeps = LogReadDeps & Pick<ServiceDeps, "clock" | "notifier">;

/**
 * The log from its beginning and then as it grows, until the attempt ends; waits for an attempt while the build is
 * open. Null where nothing came for a while.
 */
export async function followLog(
  deps: FollowDeps,
  actor: Actor,
  buildId: string,
  signal: AbortSignal,
): Promise<AsyncGenerator<Uint8Array | null>> {
  requireUser(actor);
  await requireBuild(deps, actor, buildId);
  return follow(deps, actor, buildId, signal);
}

async function* follow(
  deps: FollowDeps,
  actor: Actor,
  buildId: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array | null> {
  const watch = new Watch(deps, actor, buildId);
  const attemptId = yield* waitForAttempt(deps, watch, buildId, signal);
  if (attemptId === null) return;
  const wakeUp = new WakeUp(deps, { topic: "log", isSubject: (subject) => subject === attemptId });
  try {
    let position = 0;
    while (!signal.aborted && watch.goesOn()) {
      // Asked before the log is read: what an ended attempt wrote is there.
      const ended = await isAttemptEnded(deps.db, attemptId);
      if (ended) await sleep(deps.clock, LATE_LINES_MS, signal);
      for await (const { byteStart, bytes } of readLogBytes(deps, attemptId, { start: position })) {
        position = byteStart + bytes.length;
        watch.wrote();
        yield bytes;
      }
      if (ended) return;
      if (watch.isSilent()) {
        if (!(await watch.mayStillSee())) return;
        yield null;
      }
      await wakeUp.wait({ atLeastMs: LOOK_PAUSE_MS, atMostMs: LOOK_INTERVAL_MS, signal });
    }
  } finally {
    wakeUp.close();
  }
}

/** Null when the build ended without one, or the reader went away. */
async function* waitForAttempt(
  deps: FollowDeps,
  watch: Watch,
  buildId: string,
  signal: AbortSignal,
): AsyncGenerator<null, string | null> {
  while (!signal.aborted && watch.goesOn()) {
    const attempt = await findAttemptOfLink(deps.db, buildId);
    if (attempt) return attempt.id;
    if (!(await watch.mayStillBegin())) return null;
    if (watch.isSilent()) yield null;
    await sleep(deps.clock, ATTEMPT_INTERVAL_MS, signal);
  }
  return null;
}

/** How long a reader has been there, and since when it heard nothing. */
class Watch {
  readonly #deps: FollowDeps;
  readonly #actor: Actor;
  readonly #buildId: string;
  readonly #endsAt: number;
  #silentSince: number;

  constructor(deps: FollowDeps, actor: Actor, buildId: string) {
    this.#deps = deps;
    this.#actor = actor;
    this.#buildId = buildId;
    this.#silentSince = deps.clock.monotonic();
    this.#endsAt = this.#silentSince + STREAM_MS_MAX;
  }

  goesOn(): boolean {
    return this.#deps.clock.monotonic() < this.#endsAt;
  }

  wrote(): void {
    this.#silentSince = this.#deps.clock.monotonic();
  }

  /** True once an interval: the caller gives a sign then. */
  isSilent(): boolean {
    const now = this.#deps.clock.monotonic();
    if (now - this.#silentSince < SIGN_INTERVAL_MS) return false;
    this.#silentSince = now;
    return true;
  }

  async mayStillSee(): Promise<boolean> {
    return (await this.#look()) !== null;
  }

  async mayStillBegin(): Promise<boolean> {
    const status = await this.#look();
    return status !== null && (OPEN_BUILD as readonly number[]).includes(status);
  }

  /** The status that the build shows; null when the actor may not see it any more, or it is gone. */
  async #look(): Promise<number | null> {
    try {
      await requireStillSignedIn(this.#deps, this.#actor);
      return (await requireBuild(this.#deps, this.#actor, this.#buildId)).status;
    } catch (error) {
      if (error instanceof DomainError) return null;
      throw error;
    }
  }
}
