import { join } from "node:path";
import type { Event, Exception, StackFrame, StackParser } from "@sentry/core";
import { MINUTE, SECOND, systemClock } from "#core/lib/clock.ts";
import { TokenBuckets } from "#core/lib/token-buckets.ts";
import type { LoggedError } from "./logger.ts";
import { redactText } from "./redact.ts";
import { currentRequestId } from "./request-context.ts";

export interface ErrorReports {
  /** Sends what was logged, in the background, unless it was sent often lately. It never throws. */
  report(error: LoggedError): void;
  /** Waits for what is on its way, for `ms` at most. */
  flush(ms: number): Promise<void>;
}

export interface ErrorReportOptions {
  readonly dsn: string;
  readonly version: string;
  /** Told why a report was not taken. */
  readonly onFailure: (reason: string) => void;
}

/** A failing loop makes an error each second; the first ones say it all. */
const ALIKE = { refillMs: 10 * MINUTE, burst: 3 };
const ALL = { refillMs: 5 * SECOND, burst: 60 };
const SEND_MS_MAX: number = 10 * SECOND;
const CAUSES_MAX = 5;
const TEXT_LENGTH_MAX = 2_000;
/** What this file's paths begin with says where the server is installed, and nothing of the error. */
const ROOT = join(import.meta.dirname, "../../");

/**
 * Sends errors to a Sentry. What leaves: the message that was logged, the errors' types, messages and stacks without
 * what looks like a secret, the part of the server and the request's id. Nothing of a request and its sender, and no
 * name of the machine. The package is loaded here, so that nobody else pays for it.
 */
export async function startErrorReports({ dsn, version, onFailure }: ErrorReportOptions): Promise<ErrorReports> {
  const [{ createStackParser, createTransport, Scope }, { nodeStackLineParser, ServerRuntimeClient }] =
    await Promise.all([import("@sentry/core"), import("@sentry/core/server")]);
  const parseStack = createStackParser(nodeStackLineParser());
  const client = new ServerRuntimeClient({
    dsn,
    release: `gradient@${version}`,
    platform: "node",
    runtime: { name: "node", version: process.version },
    integrations: [],
    sendClientReports: false,
    stackParser: parseStack,
    transport: (options) => createTransport(options, ({ body }) => send(options.url, body, onFailure)),
  });
  client.init();
  const [all, alike] = [new TokenBuckets(systemClock, ALL), new TokenBuckets(systemClock, ALIKE)];
  return {
    report(logged) {
      if (alike.take(`${logged.part} ${logged.message}`) > 0 || all.take("") > 0) return;
      // A scope of its own: nothing that anybody has set elsewhere comes along.
      client.captureEvent(eventOf(logged, parseStack), {}, new Scope());
    },
    flush: async (ms) => void (await client.flush(ms)),
  };
}

function eventOf({ part, message, fields }: LoggedError, parseStack: StackParser): Event {
  const requestId = currentRequestId() ?? fields.requestId;
  const exceptions = errorChain(fields.error).map((error) => exceptionOf(error, parseStack));
  return {
    level: "error",
    logger: part,
    message: shown(message),
    tags: { part, ...(typeof requestId === "string" && { request_id: shown(requestId) }) },
    fingerprint: [part, shown(message), ...exceptions.map(({ type }) => type ?? "")],
    // The innermost comes first.
    ...(exceptions.length > 0 && { exception: { values: exceptions.reverse() } }),
  };
}

function errorChain(first: unknown): Error[] {
  const chain: Error[] = [];
  for (let error = first; error instanceof Error && chain.length < CAUSES_MAX; error = error.cause) chain.push(error);
  return chain;
}

function exceptionOf(error: Error, parseStack: StackParser): Exception {
  const frames = parseStack(error.stack ?? "").map(withoutRoot);
  return { type: shown(error.name), value: shown(error.message), stacktrace: { frames } };
}

function withoutRoot({ filename = "", function: name, lineno, colno, in_app }: StackFrame): StackFrame {
  const file = filename.replace("file://", "").replace(ROOT, "");
  return {
    filename: file,
    ...(name !== undefined && { function: name }),
    ...(lineno !== undefined && { lineno }),
    ...(colno !== undefined && { colno }),
    ...(in_app !== undefined && { in_app }),
  };
}

function shown(text: string): string {
  return redactText(text.slice(0, TEXT_LENGTH_MAX));
}

/** To an address that the operator has set: it may be on this machine, as a relay is. */
async function send(url: string, body: string | Uint8Array, onFailure: (reason: string) => void) {
  try {
    const response = await fetch(url, {
      method: "POST",
      body: typeof body === "string" ? body : new Uint8Array(body),
      headers: { "content-type": "application/x-sentry-envelope" },
      redirect: "error",
      signal: AbortSignal.timeout(SEND_MS_MAX),
    });
    await response.body?.cancel();
    if (!response.ok) onFailure(`it was answered ${response.status}`);
    const limits = response.headers.get("x-sentry-rate-limits");
    const headers = { "x-sentry-rate-limits": limits, "retry-after": response.headers.get("retry-after") };
    return { statusCode: response.status, headers };
  } catch (error) {
    onFailure(error instanceof Error ? String(error.cause ?? error.message) : String(error));
    return {};
  }
}
