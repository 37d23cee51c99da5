import { Hono } from "hono";
import { toBase64, utf8 } from "#core/lib/bytes.ts";
import type { AppEnv } from "./env.ts";
import { type OpenApiDocument, PAGE_STYLE, renderPage } from "./openapi-page.ts";

/** Made once, when somebody asks: most servers are never asked. */
interface Served {
  readonly json: string;
  readonly page: string;
  readonly policy: string;
}

/** `/openapi.json`, what this API takes and answers, and `/docs`, the same for people to read. */
export function openApiRoutes(): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  let served: Promise<Served> | null = null;
  const serve = () => {
    served ??= prepare();
    return served;
  };

  app.get("/openapi.json", async (c) => {
    const { json } = await serve();
    // Any origin may read it: it is the same for everybody, and tools in browsers ask for it.
    const headers = { "access-control-allow-origin": "*", "cache-control": "public, max-age=300" };
    return c.body(json, 200, { "content-type": "application/json", ...headers });
  });

  app.get("/docs", async (c) => {
    const { page, policy } = await serve();
    return c.body(page, 200, {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": policy,
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cache-control": "public, max-age=300",
    });
  });

  return app;
}

async function prepare(): Promise<Served> {
  const { default: document } = await import("#docs/openapi.json", { with: { type: "json" } });
  const digest = await crypto.subtle.digest("SHA-256", utf8(PAGE_STYLE));
  return {
    json: JSON.stringify(document),
    page: renderPage(document as unknown as OpenApiDocument),
    policy: `default-src 'none'; style-src 'sha256-${toBase64(new Uint8Array(digest))}'; frame-ancestors 'none'`,
  };
}
