import { afterAll, beforeAll, expect, test } from "vitest";
import { ApiClient, ApiError } from "#core/api/client.ts";
import { PASSWORD, type TestApp, type TestUser, withApp } from "#test/handlers/support.ts";

const ORIGIN = "http://127.0.0.1:3000";

let app: TestApp;
let ada: TestUser;
let client: ApiClient;
beforeAll(async () => {
  app = await withApp();
  ada = await app.user("ada");
  client = clientOf(() => ada.token);
});
afterAll(() => app?.[Symbol.asyncDispose]());

function clientOf(token: () => string | null, fetch = send): ApiClient {
  return new ApiClient({ origin: ORIGIN, token, fetch });
}

async function send(input: Parameters<typeof fetch>[0], init?: RequestInit): Promise<Response> {
  return await app.app.request(new Request(input, init));
}

function answering(body: string, init: ResponseInit): typeof globalThis.fetch {
  return async () => new Response(body, init);
}

test("a route is called by its name, and what it takes and gives has types", async () => {
  const id: string = await client.call("PUT /orgs", { body: { name: "acme", display_name: "Acme" } });
  const { items, total } = await client.call("GET /orgs", { query: { page: 1, per_page: 10 } });
  expect([total, items[0]?.id, items[0]?.role]).toEqual([1, id, "Admin"]);

  const path = { organization: "acme" };
  await client.call("PATCH /orgs/{organization}", { path, body: { description: "all of it" } });
  expect((await client.call("GET /orgs/{organization}", { path })).description).toBe("all of it");
  expect(await client.call("GET /health")).toBe("200 ALIVE");
  // @ts-expect-error: the name of the organization is missing.
  await expect(client.call("GET /orgs/{organization}")).rejects.toThrow();
  // @ts-expect-error: a body that the route does not take.
  await expect(client.call("PUT /orgs", { body: { nam: "acme" } })).rejects.toThrow("name: is missing");
});

test("what is refused is thrown with its code, its status and the id under which the log has more", async () => {
  const refused = await client
    .call("GET /orgs/{organization}", { path: { organization: "no such/../one" } })
    .catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(ApiError);
  expect(refused).toMatchObject({ code: "not_found", status: 404, message: "Organization not found" });
  expect((refused as ApiError).requestId).toMatch(/^[0-9a-f-]{36}$/);
  await expect(clientOf(() => null).call("GET /user")).rejects.toMatchObject({ code: "unauthorized", status: 401 });
});

test("a verdict that comes with the status of success is thrown when it is a refusal", async () => {
  await expect(client.call("POST /auth/check-username", { body: { username: "ada" } })).rejects.toMatchObject({
    code: "already_exists",
    status: 200,
  });
});

test("a token is asked for anew before each request", async () => {
  let token: string | null = null;
  const changing = clientOf(() => token);
  await expect(changing.call("GET /user")).rejects.toThrow();
  token = await changing.call("POST /auth/basic/login", { body: { loginname: "ada", password: PASSWORD } });
  expect((await changing.call("GET /user")).username).toBe("ada");
});

test("what something in between answers is a failure without a code", async () => {
  const behindProxy = clientOf(() => null, answering("<h1>Bad Gateway</h1>", { status: 502 }));
  await expect(behindProxy.call("GET /health")).rejects.toMatchObject({ code: null, status: 502 });
  const portal = clientOf(() => null, answering("<h1>Please sign in</h1>", { status: 200 }));
  await expect(portal.call("GET /health")).rejects.toMatchObject({ code: null, status: 200 });
});

test("a stream gives its values one after the other, however it is cut", async () => {
  const [build, evaluation] = [crypto.randomUUID(), crypto.randomUUID()];
  const text = '"first\\n"\n"ü"\n\n"last"';
  const bytes = new TextEncoder().encode(text);
  const pieces = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
      controller.close();
    },
  });
  const lines = clientOf(
    () => null,
    async () => new Response(pieces, { headers: { "content-type": "application/x-ndjson" } }),
  );
  expect(await Array.fromAsync(lines.follow("POST /builds/{build}/log", { path: { build } }))).toEqual([
    "first\n",
    "ü",
    "last",
  ]);

  const frame = { type: "evaluation_progress", project: build, evaluation_id: evaluation };
  const written = JSON.stringify(frame).replace(",", ",\ndata: ");
  const events = clientOf(
    () => null,
    answering(`: nothing new\n\nevent: x\ndata: ${written}\n\n`, { headers: { "content-type": "text/event-stream" } }),
  );
  expect(await Array.fromAsync(events.follow("GET /evals/{evaluation}/live", { path: { evaluation } }))).toEqual([
    frame,
  ]);
});
