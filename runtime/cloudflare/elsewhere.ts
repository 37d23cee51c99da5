import { DomainError } from "#core/errors.ts";
import { failure, failureResponse } from "#core/http/envelope.ts";
import { elsewhere } from "./not-here.ts";

const ID = "[^/]+";
/** What only servers answer, and what it is called in the refusal. */
const PARTS: readonly (readonly [RegExp, string])[] = [
  [/^\/proto(?:\/|$)/, "The workers' hub"],
  [/^\/hooks\//, "The receiver of webhooks"],
  [/^\/metrics$/, "The page of measurements"],
  [/^\/api\/v1\/auth\//, "Signing in"],
  [/^\/api\/v1\/admin\/state$/, "The state as a file"],
  [new RegExp(`^/api/v1/evals/${ID}/live$`), "An evaluation's live view"],
  [new RegExp(`^/api/v1/caches/${ID}/retention/`), "The preview of retention"],
  [new RegExp(`^/api/v1/caches/${ID}/nars/${ID}/why$`), "What retention keeps a path for"],
];

/** The answer to what is not for this address: to everything but reading, and to what only servers have. */
export function refuseElsewhere({ method, url }: Request, serveUrl: string): Response | null {
  const path = decoded(new URL(url).pathname);
  const part = PARTS.find(([pattern]) => pattern.test(path));
  if (part) return failureResponse(elsewhere(part[1], serveUrl), { "cache-control": "no-store" });
  if (method === "GET" || method === "HEAD") return null;
  const refusal = new DomainError(
    "method_not_allowed",
    `This address is read with GET and HEAD: send changes to ${serveUrl}`,
  );
  return Response.json(failure(refusal), { status: 405, headers: { allow: "GET, HEAD", "cache-control": "no-store" } });
}

/** As the router reads it. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
