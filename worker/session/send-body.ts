import type { OutgoingStream } from "#core/protocol/outgoing-stream.ts";
import type { IncomingMessage, LiveSession } from "./live-session.ts";

/** A question that announces the stream, and the body that follows it. */
export interface BodySending {
  readonly answered: Promise<IncomingMessage>;
  readonly sending: () => Promise<void>;
}

/**
 * Sends a question with a body when it is its turn. Resolves with the answer and with why the body broke off, if it
 * did; rejects when the question does. A body whose question failed, or that nobody waits for any more, is given up.
 */
export async function sendBody(
  session: LiveSession,
  signal: AbortSignal,
  send: (stream: OutgoingStream) => BodySending,
): Promise<{ readonly answer: IncomingMessage; readonly failure: unknown }> {
  return await session.uploads.run(async () => {
    signal.throwIfAborted();
    const stream = session.connection.openStream();
    const giveUp = () => void stream.abort("the worker gave it up").catch(() => {});
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      const { answered, sending } = send(stream);
      // Nobody reads on once there is an answer: a body that is still under way then is not waited for.
      answered.then(giveUp, giveUp);
      const [sent, answer] = await Promise.allSettled([sending(), answered]);
      if (answer.status === "rejected") throw answer.reason;
      return { answer: answer.value, failure: sent.status === "rejected" ? sent.reason : null };
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  });
}
