import { createHash, timingSafeEqual } from "node:crypto";
import type { HttpBindings } from "@hono/node-server";
import { DomainError, type ErrorCode } from "#core/errors.ts";
import { rawPath } from "#core/http/cache-route.ts";
import type { ClientAddress } from "#core/http/client-address.ts";
import { failureResponse } from "#core/http/envelope.ts";
import { type RateLimits, tooManyRequests } from "#core/http/rate-limits.ts";
import { API_HEADERS } from "#core/http/security-headers.ts";
import type { Bytes } from "#core/lib/bytes.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { Metrics } from "./metrics.ts";

export interface MetricsEndpointDeps {
  readonly metrics: Pick<Metrics, "contentType" | "render">;
  readonly token: Bytes;
  readonly rates: Pick<RateLimits, "take"> | undefined;
  readonly clientOf: (env: HttpBindings) => ClientAddress;
  readonly log: Logger;
}

const PATH = "/metrics";
const HEADERS = { ...API_HEADERS, "cache-control": "no-store" };
const BEARER = /^bearer +([!-~]+) *$/i;

/** Answers `GET /metrics` to whoever presents the token. Null for every other address. */
export function createMetricsEndpoint(
  deps: MetricsEndpointDeps,
): (request: Request, env: HttpBindings) => Promise<Response | null> {
  const expected = digest(deps.token);
  return async (request, env) => {
    if (rawPath(request.url) !== PATH) return null;
    if (request.method !== "GET" && request.method !== "HEAD") {
      return refuse("method_not_allowed", "Metrics are read with GET", { allow: "GET, HEAD" });
    }
    const waitMs = deps.rates?.take("metrics", deps.clientOf(env)) ?? 0;
    if (waitMs > 0) return tooManyRequests(waitMs);
    const presented = BEARER.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
    // Of hashes, so that the time tells nothing of how much was right.
    if (!timingSafeEqual(digest(new TextEncoder().encode(presented)), expected)) {
      return refuse("unauthorized", "Send `Authorization: Bearer` with the contents of the file of metricsTokenFile");
    }
    return await render(deps);
  };
}

async function render({ metrics, log }: MetricsEndpointDeps): Promise<Response> {
  try {
    return new Response(await metrics.render(), { headers: { ...HEADERS, "content-type": metrics.contentType } });
  } catch (error) {
    log.error("metrics could not be measured", { error });
    return refuse("internal", "Not everything could be measured; the log holds the cause");
  }
}

function refuse(code: ErrorCode, message: string, headers: Readonly<Record<string, string>> = {}): Response {
  return failureResponse(new DomainError(code, message), { ...HEADERS, ...headers });
}

function digest(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
