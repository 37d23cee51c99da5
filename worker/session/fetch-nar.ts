import type { ByteStream } from "#core/lib/streams.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { type FetchedNar, PathUnavailableError } from "../link.ts";
import { type IncomingMessage, type LiveSession, type OutgoingMessage, SessionLostError } from "./live-session.ts";
import { ResumingBody } from "./resuming-body.ts";

type NarOffer = Extract<IncomingMessage, { type: "nar_offer" }>;

/** Asks again after a pause. The reason is shown in the attempt's log. */
export type Again = (reason: string) => Promise<never>;

export interface FetchContext {
  readonly attemptId: string;
  readonly signal: AbortSignal;
  /** Runs the step on the session of now; when that is lost, again on the next one. */
  readonly overSessions: <T>(step: (session: LiveSession, again: Again) => Promise<T>) => Promise<T>;
}

/**
 * Asks the server for a path. Its file goes on where it was when a session is lost or the server breaks the transfer
 * off, as long as the server has the same file. Throws `PathUnavailableError`.
 */
export async function fetchNar(context: FetchContext, path: StorePath): Promise<FetchedNar> {
  const { offer, body } = await request(context, path, null);
  const { info, compression, file_size: fileSize, file } = offer;
  if (file === undefined) return { info, compression, fileSize, body };
  const rest = async (offset: number, cause: unknown) => {
    const next = await request(context, path, { file, offset });
    if (next.offer.file === file && (next.offer.offset ?? 0) === offset) return { body: next.body, offset };
    await next.body[Symbol.asyncIterator]().return?.();
    throw new SessionLostError("the server has another file of the path now", { cause });
  };
  return { info, compression, fileSize, body: new ResumingBody(body, rest) };
}

async function request(
  { attemptId, signal, overSessions }: FetchContext,
  path: StorePath,
  resume: { readonly file: string; readonly offset: number } | null,
): Promise<{ readonly offer: NarOffer; readonly body: ByteStream }> {
  return await overSessions(async (session, again) => {
    const id = session.newId();
    const common = { type: "nar_request", request: id, attempt: attemptId, path } as const;
    const question: OutgoingMessage = resume ? { ...common, resume } : common;
    const { answer, body } = await session.askReading(question, `request ${id}`, (message) => ({
      answer: message,
      body: message.type === "nar_offer" ? accept(session, message.stream, signal) : null,
    }));
    if (answer.type === "nar_offer" && body) return { offer: answer, body };
    if (answer.type !== "nar_unavailable") return await again(`it answers ${answer.type}`);
    if (!answer.retry) throw new PathUnavailableError(path, answer.reason);
    return await again(`${path}: ${answer.reason}`);
  });
}

/** Null when nobody waits for it any more: a body that is not read would hold one of the server's places for ever. */
function accept(session: LiveSession, stream: number, signal: AbortSignal): ByteStream | null {
  if (!signal.aborted) return session.connection.acceptStream(stream);
  session.connection.refuseStream(stream);
  return null;
}
