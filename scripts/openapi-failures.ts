import { PATH_PARAMETERS } from "#core/api/openapi/parameters.ts";
import type { RouteName, RouteSpec } from "#core/api/openapi/route.ts";
import type { ErrorCode } from "#core/errors.ts";
import { ERROR_STATUS } from "#core/http/envelope.ts";
import type { Schema } from "./openapi-types.ts";

/** Whatever is asked. */
const EVERYWHERE: readonly ErrorCode[] = ["bad_request", "too_many_requests", "internal", "service_unavailable"];

const RETRY_AFTER = { description: "Seconds after which to ask again.", schema: { type: "integer" } };

/** Every code that a route may answer with, in the order of their statuses. */
export function errorsOf(name: RouteName, spec: RouteSpec): readonly ErrorCode[] {
  const codes = new Set<ErrorCode>([...EVERYWHERE, ...(spec.errors ?? [])]);
  const add = (when: boolean, ...some: readonly ErrorCode[]) => {
    if (when) for (const code of some) codes.add(code);
  };
  const parameters = [...name.matchAll(/\{(\w+)\}/g)].map(([, key = ""]) => key);
  const signedIn = spec.audience === "user" || spec.audience === "superuser";
  // A deactivated user; a page of another origin that sends a browser's cookie. A body is limited that nobody reads.
  add(signedIn, "unauthorized", "forbidden_source_ip", "forbidden");
  add(!name.startsWith("GET "), "forbidden", "payload_too_large");
  add(spec.audience === "superuser", "superuser_required");
  add((spec.permissions ?? []).length > 0, "forbidden", "not_found");
  add(parameters.length > 0, "not_found");
  // Whoever reads with a key that does not hold the right to view.
  add(parameters.length > 0 && spec.audience === "reader", "forbidden");
  const exact = parameters.some((key) => PATH_PARAMETERS[key]?.form !== "name");
  add(exact || Boolean(spec.query ?? spec.body), "validation");
  add(spec.body !== undefined, "unsupported_media_type");
  return (Object.keys(ERROR_STATUS) as ErrorCode[]).filter((code) => codes.has(code));
}

/** One response a status. Sets of codes that occur more than once are written once. */
export function failureResponses(codes: readonly ErrorCode[], shared: Map<string, Schema>): Schema {
  const byStatus = Map.groupBy(codes, (code) => ERROR_STATUS[code]);
  return Object.fromEntries(
    [...byStatus].map(([status, some]) => {
      const name = some.join("_or_");
      shared.set(name, responseOf(some));
      return [status, { $ref: `#/components/responses/${name}` }];
    }),
  );
}

function responseOf(codes: readonly ErrorCode[]): Schema {
  const schema = {
    allOf: [{ $ref: "#/components/schemas/Failure" }, { properties: { code: { enum: codes } } }],
  };
  const description = codes.map((code) => `\`${code}\``).join(" or ");
  const headers = codes.includes("too_many_requests") ? { "Retry-After": RETRY_AFTER } : null;
  return {
    description: `Refused: ${description}.`,
    ...(headers && { headers }),
    content: { "application/json": { schema } },
  };
}
