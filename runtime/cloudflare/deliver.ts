import type { Logger } from "#core/ports/logger.ts";

/** Workers know the length of no other stream, and would send it in chunks. */
declare const FixedLengthStream: new (length: number) => TransformStream<Uint8Array, Uint8Array>;

interface WorkersResponseInit extends ResponseInit {
  /** `manual`: what `Content-Encoding` names is done already. */
  readonly encodeBody: "automatic" | "manual";
}

/**
 * The same answer as Workers send it as it is: of the length that it names, and in the coding that it names. `sent`
 * resolves when the last byte is on its way or nobody wants it any more; it never rejects.
 */
export async function deliver(
  response: Response,
  log: Logger,
): Promise<{ readonly response: Response; readonly sent: Promise<void> }> {
  const { body, status, headers } = response;
  if (!body) return { response, sent: Promise.resolve() };
  const init: WorkersResponseInit = { status, headers, encodeBody: "manual" };
  const length = headers.get("content-length");
  if (length === null && headers.get("content-type")?.startsWith("application/json")) {
    // In memory anyway, so that its length is known.
    return { response: new Response(await response.arrayBuffer(), init), sent: Promise.resolve() };
  }
  const passage =
    length === null ? new TransformStream<Uint8Array, Uint8Array>() : new FixedLengthStream(Number(length));
  const sent = body.pipeTo(passage.writable).catch((error: unknown) => {
    log.debug("an answer was cut off", { error });
  });
  return { response: new Response(passage.readable, init), sent };
}
