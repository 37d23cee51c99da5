import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { SECOND } from "#core/lib/clock.ts";
import { KeyFileError } from "./api-key.ts";
import type { Wanted } from "./decide.ts";
import { type Seen, type Server, ServerError } from "./ports.ts";
import { printable } from "./printable.ts";
import { type DeploySettings, type Environment, SettingsError, serverTrouble } from "./read-settings.ts";
import { AGENT_VERSION } from "./version.ts";
import { parseWanted, WantedError } from "./wanted.ts";

type Settings = Pick<DeploySettings, "server" | "allowHttp" | "project" | "host" | "serverTimeoutSeconds">;

const ANSWER_BYTES_MAX = 1_000_000;
/** A host whose network broke is to be put right soon. */
const REACH_TIMEOUT_MS = 5 * SECOND;
const REPORT_TIMEOUT_MS = 10 * SECOND;

interface Asked {
  readonly method: "GET" | "POST";
  readonly path: string;
  /** Says nothing and asks nothing of us: no key is sent, and anybody may listen. */
  readonly isPublic?: boolean;
  readonly body?: unknown;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

/**
 * The server by its HTTP API, through the proxy that the environment names. Key and certificates are read when they are
 * needed first: what was left on the host is put right without them.
 */
export class ServerLink implements Server {
  readonly #settings: Settings;
  readonly #apiKey: () => string;
  readonly #environment: Environment;
  readonly #certificates: () => readonly string[] | null;
  #agent: HttpAgent | null = null;

  constructor(
    settings: Settings,
    {
      apiKey,
      environment,
      certificates,
    }: {
      /** Throws `KeyFileError`. */
      readonly apiKey: () => string;
      readonly environment: Environment;
      /** Instead of the usual ones; null: the usual ones. Throws `SettingsError`. */
      readonly certificates: () => readonly string[] | null;
    },
  ) {
    this.#settings = settings;
    this.#apiKey = apiKey;
    this.#environment = environment;
    this.#certificates = certificates;
  }

  async wanted(news?: {
    readonly seen: Seen;
    readonly waitSeconds: number;
    readonly signal?: AbortSignal;
  }): Promise<Wanted> {
    const query = news ? newsQuery(news.seen, news.waitSeconds) : "";
    const answer = await this.#ask({
      method: "GET",
      path: `${this.#hostPath()}/wanted${query}`,
      timeoutMs: (this.#settings.serverTimeoutSeconds + (news?.waitSeconds ?? 0)) * SECOND,
      ...(news?.signal ? { signal: news.signal } : {}),
    });
    if (answer.status === 404) await this.#checkKey();
    const message = readEnvelope(answer, this.#settings);
    try {
      return parseWanted(message);
    } catch (error) {
      if (!(error instanceof WantedError)) throw error;
      throw new ServerError("bad-answer", `the server's answer cannot be understood: ${error.message}`, answer.status);
    }
  }

  /** A key that the server does not know sees as much as nobody does, which does not say what is wrong. */
  async #checkKey(): Promise<void> {
    const timeoutMs = this.#settings.serverTimeoutSeconds * SECOND;
    const { status } = await this.#ask({ method: "GET", path: "/api/v1/orgs?per_page=1", timeoutMs });
    if (status === 401) throw new ServerError("unauthorized", "the server does not accept the API key", status);
  }

  async report(body: Readonly<Record<string, unknown>>): Promise<void> {
    const answer = await this.#ask({
      method: "POST",
      path: `${this.#hostPath()}/reports`,
      body,
      timeoutMs: REPORT_TIMEOUT_MS,
    });
    readEnvelope(answer, this.#settings);
  }

  async reach(): Promise<void> {
    // Whatever is said: that a server is ill, or restarts, is not the doing of this host's new system.
    await this.#ask({ method: "GET", path: "/api/v1/health", isPublic: true, timeoutMs: REACH_TIMEOUT_MS });
  }

  #hostPath(): string {
    const { project, host } = this.#settings;
    const names = [project.organization, project.name, "hosts", host].map(encodeURIComponent);
    return `/api/v1/projects/${names.join("/")}`;
  }

  async #ask(asked: Asked): Promise<Answer> {
    const url = `${this.#settings.server}${asked.path}`;
    const { agent, authorization } = this.#prepare(asked);
    const timeout = AbortSignal.timeout(asked.timeoutMs);
    const signal = asked.signal ? AbortSignal.any([asked.signal, timeout]) : timeout;
    try {
      return await send(url, asked, { agent, authorization, signal });
    } catch (error) {
      const words = timeout.aborted ? `no answer in ${asked.timeoutMs / SECOND} s` : reasonOf(error);
      throw new ServerError("unreachable", `${this.#settings.server}: ${words}`, null, { cause: error });
    }
  }

  #prepare({ isPublic = false }: Asked): { readonly agent: HttpAgent; readonly authorization: string | null } {
    const trouble = isPublic ? null : serverTrouble(this.#settings);
    if (trouble) throw new ServerError("settings", trouble, null);
    try {
      const authorization = isPublic ? null : `Bearer ${this.#apiKey()}`;
      this.#agent ??= this.#newAgent();
      return { agent: this.#agent, authorization };
    } catch (error) {
      if (error instanceof KeyFileError) throw new ServerError("key-file", error.message, null, { cause: error });
      if (error instanceof SettingsError) throw new ServerError("settings", error.message, null, { cause: error });
      throw error;
    }
  }

  #newAgent(): HttpAgent {
    const proxyEnv = this.#environment as NodeJS.ProcessEnv;
    if (!this.#settings.server.startsWith("https:")) return new HttpAgent({ proxyEnv });
    const certificates = this.#certificates();
    return new HttpsAgent({ proxyEnv, ...(certificates ? { ca: [...certificates] } : {}) });
  }
}

function send(
  url: string,
  { method, body }: Asked,
  {
    agent,
    authorization,
    signal,
  }: { readonly agent: HttpAgent; readonly authorization: string | null; readonly signal: AbortSignal },
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const text = body === undefined ? null : JSON.stringify(body);
  const start = url.startsWith("https:") ? httpsRequest : httpRequest;
  const headers = {
    accept: "application/json",
    ...(authorization === null ? {} : { authorization }),
    "user-agent": `gradient-deploy/${AGENT_VERSION}`,
    ...(text === null ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
  };
  const request = start(url, { method, headers, agent, signal });
  request.once("error", reject);
  request.once("response", (response) => {
    readText(response).then((answer) => resolve({ status: response.statusCode ?? 0, text: answer }), reject);
  });
  request.end(text ?? undefined);
  return promise;
}

function newsQuery({ buildId, state }: Seen, waitSeconds: number): string {
  return `?wait=${waitSeconds}&seen=${buildId ?? "none"}&seen_state=${encodeURIComponent(state)}`;
}

async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > ANSWER_BYTES_MAX) throw new Error(`the answer has more than ${ANSWER_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Several addresses of one name fail together, without a message of their own. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return [...new Set(error.errors.map(reasonOf))].join(", ");
  return error instanceof Error ? error.message || error.name : String(error);
}

/** The message of the API's envelope, or what the failure means for the agent. */
function readEnvelope({ status, text }: Answer, { project, host }: Settings): unknown {
  const envelope = parseJson(text);
  if (status === 200 && envelope?.error === false) return envelope.message;
  const said = typeof envelope?.message === "string" ? printable(envelope.message.slice(0, 1_000)) : `status ${status}`;
  const slug = `${project.organization}/${project.name}`;
  if (status === 401) throw new ServerError("unauthorized", `the server does not accept the API key: ${said}`, status);
  if (status === 403) throw new ServerError("unauthorized", `the API key may not do this: ${said}`, status);
  if (status === 404) {
    const advice = `is the project ${slug} there, may this key read it, is ${host} a name of a host?`;
    throw new ServerError("not-found", `${said}; ${advice}`, status);
  }
  if (status === 429 || status >= 500) throw new ServerError("unreachable", `the server answers: ${said}`, status);
  if (status >= 300 && status < 400) {
    throw new ServerError("bad-answer", `the server sends elsewhere (status ${status}): is its address right?`, status);
  }
  throw new ServerError("bad-answer", `the server answers: ${said}`, status);
}

function parseJson(text: string): { readonly error?: unknown; readonly message?: unknown } | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : null;
  } catch {
    return null;
  }
}
