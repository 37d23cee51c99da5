import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { getRequestListener, type HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { takeBody } from "#core/lib/block-stream.ts";
import type { Logger } from "#core/ports/logger.ts";
import { sendBody } from "./body-sender.ts";
import type { Composition } from "./compose.ts";
import { cutIdleBody, REQUEST_MS_MAX } from "./request-bodies.ts";

const IF_NONE_MATCH = "if-none-match";

/** Answers what is in memory at once, without a `Request` and a `Response`: they are half of a hot narinfo's cost. */
export function createHttpServer(
  { fetch, fromMemory }: Pick<Composition, "fetch" | "fromMemory">,
  log: Logger,
): Server {
  const answer = async (request: Request, env: HttpBindings): Promise<Response> => {
    const response = await fetch(request, env);
    const body = takeBody(response);
    if (!body) return response;
    void sendBody(env.outgoing, body, log);
    return RESPONSE_ALREADY_SENT;
  };
  const listener = getRequestListener(answer as Parameters<typeof getRequestListener>[0]);
  return createServer({ requestTimeout: REQUEST_MS_MAX }, (request, response) => {
    if (answerFromMemory(fromMemory, request, response)) return;
    cutIdleBody(request);
    void listener(request, response);
  });
}

function answerFromMemory(
  fromMemory: Composition["fromMemory"],
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  const { method, url: target } = request;
  const answer = fromMemory({ method, target, ifNoneMatch: rawHeader(request, IF_NONE_MATCH) });
  if (!answer) return false;
  response.writeHead(answer.status, answer.headers);
  // A narinfo is ASCII, and so it is copied and not encoded.
  response.end(answer.text, "latin1");
  return true;
}

/** The first of a header's values; making `request.headers` would cost more than the answer's look-ups. */
function rawHeader({ rawHeaders }: IncomingMessage, name: string): string | undefined {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const key = rawHeaders[i] as string;
    if (key.length === name.length && key.toLowerCase() === name) return rawHeaders[i + 1];
  }
  return undefined;
}
