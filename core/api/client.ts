import type { ErrorCode } from "../errors.ts";
import { readItems } from "./client-streams.ts";
import {
  type ClientOptions,
  fillPath,
  type InputOf,
  type Inputs,
  type RoutesThat,
  writeQuery,
} from "./client-types.ts";
import { API_PREFIX } from "./openapi/prefix.ts";
import type { JsonAnswer, StreamAnswer } from "./openapi/route.ts";
import type { Routes } from "./openapi/routes.ts";

export type JsonRoute = RoutesThat<JsonAnswer<unknown>>;
export type StreamRoute = RoutesThat<StreamAnswer<unknown>>;

/** What the envelope of a route's answer holds. */
export type MessageOf<Name extends JsonRoute> = Routes[Name]["answer"] extends JsonAnswer<infer T> ? T : never;
/** One of the values that a route's answer consists of. */
export type ItemOf<Name extends StreamRoute> = Routes[Name]["answer"] extends StreamAnswer<infer T> ? T : never;

/** An answer that is a failure. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  /** Null where the answer came from something in between, without the API's envelope. */
  readonly code: ErrorCode | null;
  /** For the server's administrator: it stands in the log. */
  readonly requestId: string | null;

  constructor(
    message: string,
    { status, code, requestId }: Pick<ApiError, "status" | "code" | "requestId">,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
  }
}

/**
 * The API as a program uses it: routes by their names, what they take and give by the types that the server has, too.
 * Every failure that the server reports is thrown as an `ApiError`; what `fetch` throws passes.
 */
export class ApiClient {
  readonly #options: ClientOptions;

  /** `origin` without a slash at its end. Without a token, the browser's cookie of the same origin speaks. */
  constructor(options: ClientOptions) {
    this.#options = options;
  }

  /** What the envelope holds. */
  async call<Name extends JsonRoute>(route: Name, ...inputs: Inputs<Name>): Promise<MessageOf<Name>> {
    const response = await this.open(route, ...inputs);
    const envelope = await readEnvelope(response);
    // Some routes give a verdict that is a failure with the status 200.
    if (envelope === null || envelope.error) throw failureOf(response, envelope);
    return envelope.message as MessageOf<Name>;
  }

  /** Each value as it comes, until there are no more or the signal is aborted. */
  async *follow<Name extends StreamRoute>(route: Name, ...inputs: Inputs<Name>): AsyncGenerator<ItemOf<Name>> {
    const response = await this.open(route, ...inputs);
    for await (const item of readItems(response)) yield item as ItemOf<Name>;
  }

  /** The answer as it is, for files; its status is one of success. */
  async open<Name extends keyof Routes>(route: Name, ...inputs: Inputs<Name>): Promise<Response> {
    const { origin, token, fetch: send = globalThis.fetch } = this.#options;
    const { path, query, body, upload, signal } = (inputs[0] ?? {}) as InputOf<Name> & AnyInput;
    const [method = "GET", template = ""] = route.split(" ");
    const headers = new Headers({ accept: "application/json, */*;q=0.5" });
    const bearer = token?.();
    if (bearer) headers.set("authorization", `Bearer ${bearer}`);
    if (body !== undefined) headers.set("content-type", "application/json");
    const response = await send(`${origin}${API_PREFIX}${fillPath(template, path ?? {})}${writeQuery(query ?? {})}`, {
      method,
      headers,
      credentials: "same-origin",
      body: body === undefined ? (upload ?? null) : JSON.stringify(body),
      signal: signal ?? null,
    });
    if (!response.ok) throw failureOf(response, await readEnvelope(response));
    return response;
  }
}

/** What `InputOf` has for any route. */
interface AnyInput {
  readonly path?: Readonly<Record<string, string | number>>;
  readonly query?: Readonly<Record<string, unknown>>;
  readonly body?: unknown;
  readonly upload?: FormData | Blob | ArrayBuffer;
  readonly signal?: AbortSignal;
}

interface Envelope {
  readonly error: boolean;
  readonly code?: ErrorCode;
  readonly message: unknown;
}

/** Null where the answer is not the API's. */
async function readEnvelope(response: Response): Promise<Envelope | null> {
  try {
    const value: unknown = JSON.parse(await response.text());
    return typeof value === "object" && value !== null && "error" in value ? (value as Envelope) : null;
  } catch {
    return null;
  }
}

function failureOf(response: Response, envelope: Envelope | null): ApiError {
  const { status } = response;
  const requestId = response.headers.get("x-request-id");
  const code = envelope?.code ?? null;
  const text = typeof envelope?.message === "string" ? envelope.message : `the server answered with status ${status}`;
  return new ApiError(text, { status, code, requestId });
}
