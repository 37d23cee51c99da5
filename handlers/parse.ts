import type { Context } from "hono";
import * as v from "valibot";
import { DomainError } from "#core/errors.ts";
import { readJsonBody } from "#core/http/json-body.ts";
import { isUuid } from "#core/lib/ids.ts";
import type { AppEnv } from "./env.ts";

type Schema<T> = v.GenericSchema<unknown, T>;

/** The body by its schema; an absent body counts as `{}`. Throws `validation` that names each wrong field. */
export async function readJson<T>(c: Context<AppEnv>, schema: Schema<T>): Promise<T> {
  const body = (await readJsonBody(c.req.raw, c.get("bodyBytesMax"))) ?? {};
  if (Array.isArray(body)) throw new DomainError("validation", "body: expected Object but received Array");
  return parseAs(schema, body);
}

/** The query by its schema; of a name that comes twice, the first value counts. */
export function readQuery<T>(c: Context<AppEnv>, schema: Schema<T>): T {
  return parseAs(schema, c.req.query());
}

/** A UUID from the path. `what` begins the message: "worker id". */
export function readId(c: Context<AppEnv>, name: string, what: string): string {
  return parseId(c.req.param(name) ?? "", what);
}

/** The same for a piece of the path that was read already. */
export function parseId(text: string, what: string): string {
  const id = text.toLowerCase();
  if (!isUuid(id)) throw new DomainError("validation", `${what} must be a UUID`);
  return id;
}

/** A value by its schema; throws `validation` that names each wrong field. */
export function parseAs<T>(schema: Schema<T>, value: unknown): T {
  const result = v.safeParse(schema, value, { abortPipeEarly: true });
  if (result.success) return result.output;
  const problems = result.issues.slice(0, 5).map((issue) => `${v.getDotPath(issue) ?? "body"}: ${describe(issue)}`);
  throw new DomainError("validation", problems.join("; "));
}

function describe(issue: v.BaseIssue<unknown>): string {
  if (issue.kind !== "schema" || issue.type === "picklist") return issue.message;
  if (issue.received === "undefined") return "is missing";
  return `expected ${issue.expected} but received ${issue.received}`;
}
