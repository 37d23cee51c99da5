import { createHash } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PAGE_STYLE } from "#handlers/openapi-page.ts";
import { escapeHtml, renderSchema } from "#handlers/openapi-schema.ts";
import { type TestApp, withApp } from "#test/handlers/support.ts";
import { DOCUMENT } from "./document.ts";

let app: TestApp;
beforeAll(async () => {
  app = await withApp();
});
afterAll(() => app?.[Symbol.asyncDispose]());

async function get(path: string): Promise<Response> {
  return await app.app.request(`http://127.0.0.1:3000/api/v1${path}`);
}

test("the document is served to everybody, from every origin, as it is in the repository", async () => {
  const response = await get("/openapi.json");
  expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/json"]);
  expect(response.headers.get("access-control-allow-origin")).toBe("*");
  expect(await response.json()).toEqual(DOCUMENT);
});

test("the page shows every operation and every schema, and its links lead somewhere", async () => {
  const page = await (await get("/docs")).text();
  for (const [path, operations] of Object.entries(DOCUMENT.paths)) {
    expect(page).toContain(`<code>${escapeHtml(path)}</code>`);
    for (const { operationId } of Object.values(operations)) expect(page).toContain(`id="${operationId}"`);
  }
  const ids = new Set([...page.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id));
  const links = [...page.matchAll(/ href="#([^"]*)"/g)].map(([, id]) => id);
  expect(links.length).toBeGreaterThan(100);
  expect(links.filter((id) => !ids.has(id))).toEqual([]);
});

test("the page needs no script and nothing from elsewhere, and its policy allows neither", async () => {
  const response = await get("/docs");
  const page = await response.text();
  expect(page).not.toMatch(/<script|<link|<img|<iframe| on\w+=|url\(|@import| style=|https?:\/\/(?!127)/i);
  expect([...page.matchAll(/<style>([^<]*)<\/style>/g)].map(([, style]) => style)).toEqual([PAGE_STYLE]);
  const digest = createHash("sha256").update(PAGE_STYLE).digest("base64");
  expect(response.headers.get("content-security-policy")).toBe(
    `default-src 'none'; style-src 'sha256-${digest}'; frame-ancestors 'none'`,
  );
  expect(response.headers.get("x-content-type-options")).toBe("nosniff");
});

test("what a schema says is text on the page, whatever is in it", () => {
  const schema = { type: "object", properties: { "<b>": { const: '"><script>', description: "<i>" } } };
  expect(renderSchema(schema)).not.toMatch(/<(?!\/?[bi]>)|<b><b>|<i>"/);
  expect(renderSchema({ $ref: '#/components/schemas/"><script>' })).not.toContain("<script>");
});
