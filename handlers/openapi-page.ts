import { escapeHtml, type JsonSchema, remarksOf, renderSchema } from "./openapi-schema.ts";

export interface OpenApiDocument {
  readonly info: { readonly title: string; readonly description: string };
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, JsonSchema>>;
    readonly responses: Readonly<Record<string, { readonly description: string }>>;
  };
}

interface Operation {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly summary: string;
  readonly description?: string;
  readonly security: readonly object[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly description?: string; readonly content: Content };
  readonly responses: Readonly<Record<string, Answer>>;
}

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly required: boolean;
  readonly description?: string;
  readonly schema: JsonSchema;
}

interface Answer {
  readonly $ref?: string;
  readonly description?: string;
  readonly content?: Content;
}

type Content = Readonly<Record<string, { readonly schema?: JsonSchema; readonly "x-item-schema"?: JsonSchema }>>;

/** The only style that the page has, and that its security policy names. */
export const PAGE_STYLE = `:root{color-scheme:light dark}
:root{--line:light-dark(#d5d9e0,#3a3f4a);--quiet:light-dark(#59616e,#9aa3b2)}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:70rem;padding:1rem}
code,pre{font:14px/1.45 ui-monospace,monospace}
nav ul{columns:3 14rem;padding-left:1rem}
details{border-top:1px solid var(--line);padding:.4rem 0}
summary{cursor:pointer}
summary b{display:inline-block;width:4.5rem}
summary span,i{color:var(--quiet);font-style:normal}
pre{overflow-x:auto;padding:.6rem;border:1px solid var(--line);border-radius:.3rem}
table{border-collapse:collapse}
td,th{border:1px solid var(--line);padding:.2rem .6rem;text-align:left;vertical-align:top}`;

/** The document as one page, without scripts and without anything from elsewhere. */
export function renderPage(document: OpenApiDocument): string {
  const title = `${escapeHtml(document.info.title)} API`;
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  const sections = document.tags.map(({ name, description }) => {
    const own = operations.filter(({ operation }) => operation.tags.includes(name));
    const rendered = own.map((one) => renderOperation(document, one)).join("\n");
    const head = `<h2 id="${anchor(name)}">${escapeHtml(name)}</h2><p>${prose(description)}</p>`;
    return `<section>${head}\n${rendered}</section>`;
  });
  const schemas = Object.entries(document.components.schemas).map(([name, schema]) => renderComponent(name, schema));
  const places = [...document.tags.map(({ name }) => name), "Schemas"];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title}</title><style>${PAGE_STYLE}</style></head><body>
<h1>${title}</h1><p>${prose(document.info.description)}</p>
<p>For programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>
<nav><ul>${places.map((name) => `<li><a href="#${anchor(name)}">${escapeHtml(name)}</a></li>`).join("")}</ul></nav>
${sections.join("\n")}
<section><h2 id="schemas">Schemas</h2>${schemas.join("\n")}</section>
</body></html>
`;
}

function renderOperation(
  document: OpenApiDocument,
  { path, method, operation }: { readonly path: string; readonly method: string; readonly operation: Operation },
): string {
  const { operationId, summary, description, security, parameters = [], requestBody, responses } = operation;
  const head = `<b>${method.toUpperCase()}</b> <code>${escapeHtml(path)}</code> <span>${prose(summary)}</span>`;
  const body = requestBody ? `<h4>Request</h4>${renderContent(requestBody.description, requestBody.content)}` : "";
  return `<details id="${operationId}"><summary>${head}</summary>
<p>${[description ? prose(description) : "", audienceOf(security)].join(" ")}</p>${renderParameters(parameters)}${body}
<h4>Answers</h4>${Object.entries(responses)
    .map(([status, answer]) => renderAnswer(document, status, answer))
    .join("\n")}</details>`;
}

/** An empty requirement among others: credentials may be sent and need not. */
function audienceOf(security: readonly object[]): string {
  if (security.length === 0) return "<i>For everybody.</i>";
  const open = security.some((schemes) => Object.keys(schemes).length === 0);
  return open ? "<i>What is public for everybody; more with credentials.</i>" : "<i>With credentials.</i>";
}

function renderParameters(parameters: readonly Parameter[]): string {
  if (parameters.length === 0) return "";
  const rows = parameters.map(({ name, in: place, required, description, schema }) => {
    const remarks = [description ?? "", ...remarksOf({ ...schema, description: "" })].filter((text) => text !== "");
    const cells = [`<code>${escapeHtml(name)}</code>`, `${place}${required ? "" : ", optional"}`, renderSchema(schema)];
    return `<tr>${[...cells, prose(remarks.join(" "))].map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  });
  return `<h4>Parameters</h4><table>${rows.join("")}</table>`;
}

function renderAnswer(document: OpenApiDocument, status: string, answer: Answer): string {
  if (answer.$ref !== undefined) {
    const shared = document.components.responses[answer.$ref.slice(answer.$ref.lastIndexOf("/") + 1)];
    return `<p><b>${status}</b> ${prose(shared?.description ?? "")}</p>`;
  }
  return `<p><b>${status}</b></p>${renderContent(answer.description, answer.content ?? {})}`;
}

function renderContent(description: string | undefined, content: Content): string {
  const about = description ? `<p>${prose(description)}</p>` : "";
  const kinds = Object.entries(content).map(([type, media]) => {
    const schema = media["x-item-schema"] ?? media.schema;
    const shown = schema ? `<pre>${renderSchema(schema)}</pre>` : "";
    return `<p><code>${escapeHtml(type)}</code></p>${shown}`;
  });
  return about + kinds.join("");
}

function renderComponent(name: string, schema: JsonSchema): string {
  const about = remarksOf(schema)
    .map((line) => `<p>${prose(line)}</p>`)
    .join("");
  const id = escapeHtml(name);
  const head = `<summary><code>${id}</code></summary>${about}`;
  return `<details open id="schema-${id}">${head}<pre>${renderSchema(schema)}</pre></details>`;
}

/** Text with the code that is marked in it. */
function prose(text: string): string {
  return escapeHtml(text).replace(/`([^`]*)`/g, "<code>$1</code>");
}

function anchor(name: string): string {
  return name.toLowerCase().replace(/[^a-z]+/g, "-");
}
