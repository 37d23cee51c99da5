import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { API_PREFIX } from "#core/api/openapi/prefix.ts";
import type { RouteName } from "#core/api/openapi/route.ts";
import { ROOT } from "#scripts/source-files.ts";

type Json = Readonly<Record<string, unknown>>;

interface Media {
  readonly schema?: Json;
  readonly "x-item-schema"?: Json;
}

interface Answer {
  readonly $ref?: string;
  readonly content?: Readonly<Record<string, Media>>;
}

export interface Operation {
  readonly operationId: string;
  readonly security: readonly Json[];
  readonly requestBody?: { readonly content: Readonly<Record<string, Media>> };
  readonly responses: Readonly<Record<string, Answer>>;
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Json>>; readonly responses: Record<string, Answer> };
}

export const DOCUMENT: Document = JSON.parse(readFileSync(join(ROOT, "docs/openapi.json"), "utf8"));

export function operationOf(name: RouteName): Operation | undefined {
  const [method = "", path = ""] = name.split(" ");
  return DOCUMENT.paths[`${API_PREFIX}${path}`]?.[method.toLowerCase()];
}

/**
 * Objects hold what the document says and nothing else: a field that nobody described is a mistake here, though clients
 * are told to expect that there will be others.
 */
function closed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(closed);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, closed(inner)]));
  const isObject = "properties" in fields && "type" in fields && !("additionalProperties" in fields);
  return isObject ? { ...fields, additionalProperties: false } : fields;
}

const answers = new Ajv2020({ strict: false, allErrors: false });
answers.addSchema({ $id: "document", components: { schemas: closed(DOCUMENT.components.schemas) } });
const requests = new Ajv2020({ strict: false, allErrors: false, formats: { uuid: true } });
requests.addSchema({ $id: "document", components: DOCUMENT.components });
const compiled = new Map<Json, ValidateFunction>();

function validatorOf(ajv: Ajv2020, schema: Json, prepare: (schema: Json) => unknown): ValidateFunction {
  const known = compiled.get(schema);
  if (known) return known;
  const text = JSON.stringify(prepare(schema)).replaceAll('"#/components/', '"document#/components/');
  const made = ajv.compile(JSON.parse(text));
  compiled.set(schema, made);
  return made;
}

/** Whether the document takes this as the JSON body of a request; null where it describes none. */
export function takesBody(name: RouteName, body: unknown): boolean | null {
  const schema = operationOf(name)?.requestBody?.content["application/json"]?.schema;
  return schema ? validatorOf(requests, schema, (one) => one)(body) : null;
}

/** Everything in which an answer differs from what the document promises of the route. */
export async function checkAnswer(
  name: RouteName,
  response: Response,
): Promise<{ readonly problems: string[]; readonly text: string }> {
  const text = await response.text();
  const promised = resolve(operationOf(name)?.responses[response.status]);
  if (!promised) return { text, problems: [`the status ${response.status} is not in the document: ${text}`] };
  const type = (response.headers.get("content-type") ?? "").split(";", 1)[0] ?? "";
  const media = promised.content?.[type];
  if (!media) {
    const expected = Object.keys(promised.content ?? {});
    const isBare = expected.length === 0 && text === "";
    const isFile = response.status === 200 && expected.includes("application/octet-stream");
    return { text, problems: isBare || isFile ? [] : [`${type} came instead of ${expected.join(", ") || "nothing"}`] };
  }
  const item = media["x-item-schema"];
  const schema = item ?? (type === "application/json" ? media.schema : undefined);
  if (!schema) return { text, problems: [] };
  const values = item ? itemsOf(type, text) : [JSON.parse(text)];
  const validate = validatorOf(answers, schema, (one) => closed(one) as Json);
  return {
    text,
    problems: values.flatMap((value) => {
      if (validate(value)) return [];
      const [error] = validate.errors ?? [];
      const extra = JSON.stringify(error?.params ?? {});
      return [`${response.status}${error?.instancePath} ${error?.message} ${extra}: ${text.slice(0, 300)}`];
    }),
  };
}

function itemsOf(type: string, text: string): unknown[] {
  const lines = text.split("\n").filter((line) => line !== "");
  if (type !== "text/event-stream") return lines.map((line) => JSON.parse(line));
  return lines.filter((line) => line.startsWith("data: ")).map((line) => JSON.parse(line.slice(6)));
}

function resolve(answer: Answer | undefined): Answer | undefined {
  if (answer?.$ref === undefined) return answer;
  return DOCUMENT.components.responses[answer.$ref.slice(answer.$ref.lastIndexOf("/") + 1)];
}
