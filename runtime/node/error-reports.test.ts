import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type ErrorReports, startErrorReports } from "./error-reports.ts";
import { createLoggers } from "./logger.ts";
import { inRequest } from "./request-context.ts";

const LEVELS = { default: "info", web: "info", cache: "info", proto: "info", scheduler: "info" } as const;

interface Received {
  readonly path: string;
  readonly body: string;
  readonly event: {
    readonly message: string;
    readonly exception: {
      readonly values: readonly {
        readonly stacktrace: { readonly frames: readonly { readonly filename: string }[] };
      }[];
    };
  };
}

let server: Server;
let received: Received[];
let status: number;
let failures: string[];
let reports: ErrorReports;
beforeEach(async () => {
  received = [];
  failures = [];
  status = 200;
  server = createServer(async (request, response) => {
    const body = await text(request);
    received.push({ path: request.url ?? "", body, event: JSON.parse(body.split("\n")[2] ?? "null") });
    response.statusCode = status;
    response.end("{}");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  reports = await startErrorReports({
    dsn: `http://publickey@127.0.0.1:${(server.address() as AddressInfo).port}/sentry/42`,
    version: "1.2.3",
    onFailure: (reason) => void failures.push(reason),
  });
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

const loggers = () => createLoggers(LEVELS, { write: () => {} }, (error) => reports.report(error));

test("GRADIENT_SENTRY_DSN: an error that is logged arrives there with its causes, and warnings do not", async () => {
  const error = new TypeError("outer", { cause: new Error("inner") });

  await inRequest("request-7", async () => loggers().scheduler.error("a task failed", { error }));
  loggers().main.warn("nothing to report");
  await reports.flush(20_000);

  expect(received).toHaveLength(1);
  const [{ path, event }] = received as [Received];
  expect(path).toMatch(/^\/sentry\/api\/42\/envelope\/\?.*sentry_key=publickey/);
  expect(event).toMatchObject({
    level: "error",
    message: "a task failed",
    logger: "scheduler",
    release: "gradient@1.2.3",
    tags: { part: "scheduler", request_id: "request-7" },
    exception: {
      values: [
        { type: "Error", value: "inner" },
        { type: "TypeError", value: "outer" },
      ],
    },
  });
  const { frames } = event.exception.values[1]?.stacktrace ?? {};
  expect(frames?.at(-1)?.filename).toBe("runtime/node/error-reports.test.ts");
});

test("nothing secret leaves: neither fields nor what errors say of addresses, and nothing of the machine", async () => {
  const error = new Error("cannot clone https://ada:hunter2@forge.example/x?access_token=t0psecret");

  loggers().web.error("it failed with Bearer t0psecret-and-more", {
    error,
    password: "hunter2",
    path: "/api/v1/orgs/confidential",
    user: { email: "ada@example.org" },
  });
  await reports.flush(20_000);

  expect(received).toHaveLength(1);
  const { hostname } = await import("node:os");
  const { body } = received[0] as Received;
  for (const secret of ["hunter2", "t0psecret", "confidential", "ada@example.org", hostname(), process.cwd()]) {
    expect(body).not.toContain(secret);
  }
  expect(body).toContain("cannot clone https://[secret]@forge.example/x?access_token=[secret]");
});

test("an error that comes again and again is reported three times, and another one still is", async () => {
  for (let i = 0; i < 100; i++) loggers().cache.error("the same", { error: new Error(`number ${i}`) });
  loggers().cache.error("another");
  await reports.flush(20_000);

  expect(received.map(({ event }) => event.message)).toEqual(["the same", "the same", "the same", "another"]);
});

test("a place that takes no reports is told of, and harms nobody", async () => {
  status = 500;
  loggers().main.error("one");
  await reports.flush(20_000);
  server.closeAllConnections();
  server.close();
  await once(server, "close");
  loggers().main.error("two");
  await reports.flush(20_000);

  expect(failures[0]).toBe("it was answered 500");
  expect(failures[1]).toContain("ECONNREFUSED");
});
