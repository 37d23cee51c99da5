import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { withServerProcess } from "./server-process.ts";

test("GRADIENT_REPORT_ERRORS: what ends the server is reported to GRADIENT_SENTRY_DSN before it ends", async () => {
  await using folder = await withTemporaryFolder();
  const received: string[] = [];
  const sentry = createServer(async (request, response) => {
    received.push(await text(request));
    response.end("{}");
  });
  sentry.listen(0, "127.0.0.1");
  await once(sentry, "listening");
  const dsn = `http://publickey@127.0.0.1:${(sentry.address() as AddressInfo).port}/7`;
  await using server = await withServerProcess(folder.path, {
    GRADIENT_REPORT_ERRORS: "true",
    GRADIENT_SENTRY_DSN: dsn,
  });
  expect(received).toEqual([]);

  const postmaster = await readFile(join(folder.path, "postgres", "data", "postmaster.pid"), "utf8");
  process.kill(Number.parseInt(postmaster, 10), "SIGKILL");
  await server.ended;
  sentry.close();

  expect(received.join("\n")).toContain('"message":"stopping: the server cannot go on"');
  const jwtSecret = await readFile(join(folder.path, "secrets", "jwt"), "latin1");
  expect(received.join("\n")).not.toContain(jwtSecret.trim());
});
