import { messageOf, QuickstartError } from "./problem.ts";

/** The server's answer was an error. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export interface ApiAnswer<T> {
  readonly message: T;
  readonly headers: Headers;
}

const TIMEOUT_MS = 60_000;

/** The server's HTTP API, as any client uses it. Answers are taken as documented: both ends are of one release. */
export class Api {
  readonly #origin: string;
  readonly #token: string | null;
  readonly #signal: AbortSignal;

  constructor(origin: string, signal: AbortSignal, token: string | null = null) {
    this.#origin = origin;
    this.#signal = signal;
    this.#token = token;
  }

  as(token: string): Api {
    return new Api(this.#origin, this.#signal, token);
  }

  async get<T>(path: string): Promise<T> {
    return (await this.request<T>("GET", path)).message;
  }

  async send<T>(method: "POST" | "PUT" | "PATCH" | "DELETE", path: string, body: unknown = {}): Promise<T> {
    return (await this.request<T>(method, path, body)).message;
  }

  /** Throws `ApiError` for a refusal and `QuickstartError` when the server does not answer. */
  async request<T>(method: string, path: string, body?: unknown): Promise<ApiAnswer<T>> {
    const response = await this.#fetch(method, path, body);
    const text = await response.text();
    const envelope = parseEnvelope(text);
    if (response.ok && envelope?.error === false) return { message: envelope.message as T, headers: response.headers };
    const message = envelope ? String(envelope.message) : text.slice(0, 500);
    throw new ApiError(response.status, envelope?.code ?? "", message);
  }

  /** A body that is no envelope; null when the server refuses it. */
  async text(path: string): Promise<string | null> {
    const response = await this.#fetch("GET", path);
    const text = await response.text();
    return response.ok ? text : null;
  }

  async #fetch(method: string, path: string, body?: unknown): Promise<Response> {
    const headers: Record<string, string> = this.#token ? { authorization: `Bearer ${this.#token}` } : {};
    if (body !== undefined) headers["content-type"] = "application/json";
    try {
      return await fetch(`${this.#origin}${path}`, {
        method,
        headers,
        signal: AbortSignal.any([this.#signal, AbortSignal.timeout(TIMEOUT_MS)]),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (error) {
      this.#signal.throwIfAborted();
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
      throw new QuickstartError(`the server does not answer ${method} ${path}: ${messageOf(cause)}`, { cause: error });
    }
  }
}

interface Envelope {
  readonly error: boolean;
  readonly code?: string;
  readonly message: unknown;
}

function parseEnvelope(text: string): Envelope | null {
  try {
    const value = JSON.parse(text) as Envelope;
    return typeof value.error === "boolean" ? value : null;
  } catch {
    return null;
  }
}
