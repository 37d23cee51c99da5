import { type MultipartError, make } from "multipasta";
import { DomainError } from "#core/errors.ts";
import type { ByteStream } from "#core/lib/streams.ts";

/** A part of a multipart body. Read it to its end before the next one. */
export interface Part {
  readonly name: string;
  readonly body: ByteStream;
}

type Event = { readonly part: string } | { readonly bytes: Uint8Array } | { readonly end: true };

const PROBLEMS: Readonly<Record<MultipartError["_tag"], string>> = {
  InvalidBoundary: "its content type names no boundary",
  BadHeaders: "a part has headers that cannot be read",
  InvalidDisposition: "a part has no name: each needs `Content-Disposition: form-data; name=...`",
  ReachedLimit: "it has too many parts",
  EndNotReached: "it ended before its last boundary",
};

/**
 * The parts of a `multipart/form-data` body (RFC 7578) in order, as they arrive, with no part held in memory. What a
 * consumer leaves of a part is skipped. Throws `unsupported_media_type` or `bad_request`.
 */
export async function* readParts(body: ByteStream, contentType: string | undefined): AsyncGenerator<Part> {
  if (!/^multipart\/form-data\b/i.test(contentType ?? "")) {
    throw new DomainError("unsupported_media_type", "The request body must be sent as `multipart/form-data`");
  }
  const events = readEvents(body, contentType as string);
  let next = await events.next();
  while (!next.done) {
    const event = next.value;
    if (!("part" in event)) {
      next = await events.next();
      continue;
    }
    yield { name: event.part, body: bytesOf(events) };
    next = await events.next();
  }
}

async function* bytesOf(events: AsyncGenerator<Event>): ByteStream {
  for (;;) {
    const { done, value } = await events.next();
    if (done || "end" in value) return;
    if ("bytes" in value) yield value.bytes;
  }
}

async function* readEvents(body: ByteStream, contentType: string): AsyncGenerator<Event> {
  let queue: Event[] = [];
  let problem: string | null = null;
  const parser = make({
    headers: { "content-type": contentType },
    // Every part streams: a field that is held whole would need a limit of its own.
    isFile: () => true,
    onField: () => {},
    onFile: ({ name }) => {
      queue.push({ part: name });
      return (bytes) => queue.push(bytes === null ? { end: true } : { bytes });
    },
    onError: (error) => {
      problem ??= PROBLEMS[error._tag];
    },
    onDone: () => {},
  });
  const drain = function* (): Generator<Event> {
    const events = queue;
    queue = [];
    yield* events;
    if (problem !== null) throw new DomainError("bad_request", `The multipart body cannot be read: ${problem}`);
  };
  for await (const chunk of body) {
    parser.write(chunk);
    yield* drain();
  }
  parser.end();
  yield* drain();
}
