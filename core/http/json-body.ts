import { DomainError } from "../errors.ts";
import { fromUtf8 } from "../lib/bytes.ts";
import { collect, fromReadableStream, LimitExceededError } from "../lib/streams.ts";

/** The types in which a JSON body may come; `application/*+json` too. */
const JSON_TYPE = /^application\/(json|[a-z0-9.-]+\+json)\s*(;|$)/i;

export function payloadTooLarge(bytesMax: number): DomainError {
  return new DomainError(
    "payload_too_large",
    `The request body is larger than the ${bytesMax} bytes that are allowed here`,
  );
}

/**
 * The JSON value of a request's body; undefined when the body is empty. Reads no more than `bytesMax` bytes. Throws
 * `payload_too_large`, `unsupported_media_type`, or `bad_request` for what is not JSON in UTF-8.
 */
export async function readJsonBody(request: Request, bytesMax: number): Promise<unknown> {
  if (!request.body) return undefined;
  const bytes = await collect(fromReadableStream(request.body), bytesMax).catch((error: unknown) => {
    throw error instanceof LimitExceededError ? payloadTooLarge(bytesMax) : incomplete(error);
  });
  if (bytes.length === 0) return undefined;
  if (!JSON_TYPE.test(request.headers.get("content-type") ?? "")) {
    throw new DomainError(
      "unsupported_media_type",
      "The request body must be sent as `Content-Type: application/json`",
    );
  }
  return parse(bytes);
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(fromUtf8(bytes));
  } catch (error) {
    const reason = error instanceof SyntaxError ? error.message : "it is not UTF-8";
    throw new DomainError("bad_request", `The request body is not valid JSON: ${reason}`);
  }
}

function incomplete(cause: unknown): DomainError {
  return new DomainError("bad_request", "The request body ended before it was complete", { cause });
}
