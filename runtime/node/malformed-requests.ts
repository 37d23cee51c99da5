import { type Server, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { DomainError } from "#core/errors.ts";
import { failure } from "#core/http/envelope.ts";
import { API_HEADERS } from "#core/http/security-headers.ts";
import { hasCode } from "./files.ts";

interface Refusal {
  readonly status: 400 | 408 | 431;
  readonly message: string;
}

/** Answers what is no HTTP in the envelope, as everything else, and closes the connection. */
export function answerMalformedRequests(server: Server, isAnswering: (socket: Duplex) => boolean): void {
  server.on("clientError", (error, socket) => {
    // In the middle of another answer nothing can be said.
    if (!socket.writable || hasCode(error, "ECONNRESET") || isAnswering(socket)) return void socket.destroy();
    const { status, message } = refusalOf(error);
    const body = JSON.stringify(failure(new DomainError("bad_request", message)));
    const headers = Object.entries({
      ...API_HEADERS,
      "cache-control": "no-store",
      connection: "close",
      "content-type": "application/json",
      "content-length": body.length,
    }).map(([name, value]) => `${name}: ${value}`);
    socket.once("finish", () => socket.destroy());
    socket.end([`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...headers, "", body].join("\r\n"));
  });
}

function refusalOf(error: Error): Refusal {
  if (hasCode(error, "HPE_HEADER_OVERFLOW")) return { status: 431, message: "The request's headers are too large" };
  if (hasCode(error, "ERR_HTTP_REQUEST_TIMEOUT")) return { status: 408, message: "The request came too slowly" };
  return { status: 400, message: "The request is not valid HTTP" };
}
