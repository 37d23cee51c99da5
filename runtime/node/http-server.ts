import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { getRequestListener, type HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { classifyCacheTarget } from "#core/http/cache-class.ts";
import { PROXY_HEADER } from "#core/http/nar-elsewhere.ts";
import type { PlainAnswer } from "#core/http/plain-answer.ts";
import { takeBody } from "#core/lib/block-stream.ts";
import type { Logger } from "#core/ports/logger.ts";
import { sendBody } from "./body-sender.ts";
import type { Composition } from "./compose.ts";
import type { Front } from "./front.ts";
import { answerMalformedRequests } from "./malformed-requests.ts";
import { cutIdleBody } from "./request-bodies.ts";
import {
  boundConnections,
  CLIENT_TIMEOUTS,
  type ClientTimeouts,
  StalledConnections,
  timeoutOptions,
} from "./slow-clients.ts";

const IF_NONE_MATCH = "if-none-match";
const RANGE = "range";

export interface HttpServerDeps extends Pick<Composition, "fetch" | "fromMemory"> {
  /** Absent: requests are neither limited nor counted. */
  readonly front?: Pick<Front, "gate" | "onAnswered" | "memoryAnswers">;
}

/** Answers what is in memory at once, without a `Request` and a `Response`: they are half of a hot narinfo's cost. */
export function createHttpServer(
  deps: HttpServerDeps,
  log: Logger,
  timeouts: ClientTimeouts = CLIENT_TIMEOUTS,
): Server {
  const { fromMemory, front: { gate, memoryAnswers } = {} } = deps;
  const fetch = observed(deps);
  const answer = async (request: Request, env: HttpBindings): Promise<Response> => {
    const response = await fetch(request, env);
    const body = takeBody(response);
    if (!body) return response;
    void sendBody(env.outgoing, body, log);
    return RESPONSE_ALREADY_SENT;
  };
  const listener = getRequestListener(answer as Parameters<typeof getRequestListener>[0]);
  const connections = new StalledConnections();
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    const plain = answerFromMemory({ fromMemory, log }, request, response);
    if (plain) return memoryAnswers?.count(plain);
    connections.began(response);
    cutIdleBody(request);
    void listener(request, response);
  };
  const server = createServer(timeoutOptions(timeouts), (request, response) => {
    if (gate && !gate.mayPass(request, response, () => handle(request, response))) return;
    handle(request, response);
  });
  boundConnections(server, log);
  connections.watch(server, timeouts);
  answerMalformedRequests(server, (socket) => connections.isAnswering(socket as Socket));
  return server;
}

/** Tells of answers to requests for caches; the application tells of its own. */
function observed({ fetch, front }: HttpServerDeps): Composition["fetch"] {
  const onAnswered = front?.onAnswered;
  if (!onAnswered) return fetch;
  return async (request, env) => {
    const found = classifyCacheTarget(env.incoming.url ?? "");
    if (!found) return await fetch(request, env);
    const startedAt = performance.now();
    const response = await fetch(request, env);
    const seconds = (performance.now() - startedAt) / 1_000;
    onAnswered({ method: request.method, route: found.route, status: response.status, seconds });
    return response;
  };
}

/** What was answered; null where memory holds no answer, or fails: nobody would catch that here. */
function answerFromMemory(
  { fromMemory, log }: Pick<Composition, "fromMemory"> & { readonly log: Logger },
  request: IncomingMessage,
  response: ServerResponse,
): PlainAnswer | null {
  const { method, url: target, rawHeaders } = request;
  const asked = {
    method,
    target,
    ifNoneMatch: rawHeader(rawHeaders, IF_NONE_MATCH),
    range: rawHeader(rawHeaders, RANGE),
    sendfileType: rawHeader(rawHeaders, PROXY_HEADER),
  };
  let answer: PlainAnswer | null = null;
  try {
    answer = fromMemory(asked);
  } catch (error) {
    log.error("a request could not be answered of memory", { error, target });
  }
  if (!answer) return null;
  response.writeHead(answer.status, answer.headers);
  // A narinfo is ASCII, and so it is copied and not encoded.
  response.end(answer.body, "latin1");
  return answer;
}

/** The first of a header's values; making `request.headers` would cost more than the answer's look-ups. */
function rawHeader(rawHeaders: readonly string[], name: string): string | undefined {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const key = rawHeaders[i] as string;
    if (key.length === name.length && key.toLowerCase() === name) return rawHeaders[i + 1];
  }
  return undefined;
}
