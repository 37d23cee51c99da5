import { STREAMS_OPEN_MAX } from "#core/protocol/limits.ts";

/**
 * Builds that run behind one relay at a time: each has a stream for its log, and a session carries 256 of one side
 * (`STREAMS_OPEN_MAX`). Whoever has more machines runs more relays.
 */
export const RELAY_BUILDS_MAX = 176;
/** Bodies that go to the server at a time, beside logs. */
export const RELAY_BODIES_MAX = 64;
/** Logs that go to the server at a time. Builds whose outputs are on their way have one still, beside their places. */
export const RELAY_LOGS_MAX: number = RELAY_BUILDS_MAX;
/** Questions of all workers together that wait for the server's answer. */
const RELAY_QUESTIONS_MAX = 2048;
/** NARs that one worker is sent at a time: a slow one takes no more of the server's places. */
const WORKER_FETCHES_MAX = 4;

if (RELAY_BODIES_MAX + RELAY_LOGS_MAX > STREAMS_OPEN_MAX) throw new Error("a session does not carry that much");

/** What one of so many workers may have under way, so that a slow one leaves the others theirs. */
export interface WorkerShare {
  readonly bodies: number;
  readonly questions: number;
  readonly fetches: number;
}

export function shareOf(workersMax: number): WorkerShare {
  const share = (all: number) => Math.max(1, Math.floor(all / workersMax));
  return { bodies: share(RELAY_BODIES_MAX), questions: share(RELAY_QUESTIONS_MAX), fetches: WORKER_FETCHES_MAX };
}
