import type { HttpBindings } from "@hono/node-server";
import { expect, test } from "vitest";
import { findClient } from "#core/http/client-address.ts";
import { utf8 } from "#core/lib/bytes.ts";
import type { InstanceMetrics } from "#core/services/instance-metrics.ts";
import { type LogLine, recordingLogger } from "#test/support/recording-logger.ts";
import { createMetrics } from "./metrics.ts";
import { createMetricsEndpoint } from "./metrics-endpoint.ts";

const NOTHING: InstanceMetrics = {
  openBuilds: [],
  openEvaluations: [],
  endedBuilds: [],
  endedEvaluations: [],
  workersConnected: 0,
  jobsActive: 0,
  jobsPending: 0,
  cacheBytes: 0,
  cacheNarBytes: 0,
  cachePaths: 0,
  narRequestsSent: 0,
  narBytesSent: 0,
};

function endpoint(
  measure: () => Promise<InstanceMetrics>,
  answers = { narInfos: 0, notModified: 0, nars: 4, places: 0 },
) {
  const logged: LogLine[] = [];
  const metrics = createMetrics({ version: "1", measure, takeFromMemory: () => answers });
  const answer = createMetricsEndpoint({
    metrics,
    token: utf8("token"),
    rates: undefined,
    clientOf: () => findClient("203.0.113.9", null, []),
    log: recordingLogger(logged),
  });
  const ask = async (path = "/metrics") => {
    const request = new Request(`http://localhost${path}`, { headers: { authorization: "Bearer token" } });
    return await answer(request, {} as HttpBindings);
  };
  return { ask, metrics, logged };
}

test("when something cannot be measured the page is an error and not a part of itself", async () => {
  const { ask, logged } = endpoint(() => Promise.reject(new Error("the database is away")));

  const answer = await ask();

  expect(answer?.status).toBe(500);
  expect(await answer?.text()).not.toContain("gradient_");
  expect(logged).toMatchObject([{ level: "error", message: "metrics could not be measured" }]);
});

test("scrapers that come together are told the same, for the cost of one", async () => {
  let measured = 0;
  const { ask } = endpoint(async () => ({ ...NOTHING, workersConnected: ++measured }));

  const pages = await Promise.all([ask(), ask(), ask()].map(async (answer) => await (await answer)?.text()));

  expect(measured).toBe(1);
  for (const page of pages) expect(page).toContain("gradient_workers_connected 1\n");
  expect(await (await ask())?.text()).toContain("gradient_workers_connected 2\n");
});

test("methods that somebody made up are one series, and what memory answered is counted", async () => {
  const { ask, metrics } = endpoint(async () => NOTHING, { narInfos: 7, notModified: 3, nars: 4, places: 5 });
  for (const method of ["GET", "BREW", "X1", "X2"]) {
    metrics.onAnswered({ method, route: "none", status: 404, seconds: 0.02 });
  }

  const page = await (await ask())?.text();

  expect(page).toContain('gradient_http_requests_total{method="other",route="none",status="404"} 3\n');
  expect(page).not.toContain("BREW");
  expect(page).toContain('gradient_http_request_duration_seconds_bucket{le="0.025",method="GET",route="none"} 1\n');
  const narinfo = 'method="GET",route="/cache/:cache/:hash.narinfo"';
  expect(page).toContain(`gradient_http_requests_total{${narinfo},status="200"} 7\n`);
  expect(page).toContain(`gradient_http_requests_total{${narinfo},status="304"} 3\n`);
  expect(page).toContain('{method="GET",route="/cache/:cache/nar/:file",status="200"} 4\n');
  expect(page).toContain('{method="GET",route="/cache/:cache/nar/:file",status="204"} 5\n');
});

test("other addresses are somebody else's", async () => {
  const { ask } = endpoint(async () => NOTHING);

  for (const path of ["/", "/metrics/", "/metricsx", "/api/v1/metrics"]) expect(await ask(path)).toBeNull();
  expect((await ask("/metrics?format=text"))?.status).toBe(200);
});
