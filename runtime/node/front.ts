import type { IncomingMessage } from "node:http";
import type { HttpBindings } from "@hono/node-server";
import { mayOpenSocket } from "#core/http/page-origin.ts";
import { RateLimits, refusalHeaders, TooManyRequestsError } from "#core/http/rate-limits.ts";
import { systemClock } from "#core/lib/clock.ts";
import { measureInstance } from "#core/services/instance-metrics.ts";
import { createNarTraffic, type NarTraffic } from "#core/services/traffic.ts";
import type { AppDeps } from "#handlers/app.ts";
import type { AnsweredRequest } from "#handlers/middleware/observe.ts";
import { createClientFinder } from "./client-of.ts";
import type { Config } from "./config.ts";
import type { Databases } from "./database.ts";
import type { UpgradeRefusal } from "./hub/websocket.ts";
import type { Loggers } from "./logger.ts";
import { MemoryAnswers } from "./memory-answers.ts";
import { createMetrics } from "./metrics.ts";
import { createMetricsEndpoint } from "./metrics-endpoint.ts";
import { inRequest } from "./request-context.ts";
import { RequestGate } from "./request-gate.ts";
import { VERSION } from "./version.ts";

/** What stands before everything that answers requests: limits, and figures. */
export interface Front {
  /** Undefined where nothing is limited. */
  readonly gate: RequestGate | undefined;
  /** Undefined where nobody reads metrics. */
  readonly onAnswered: ((answered: AnsweredRequest) => void) | undefined;
  readonly memoryAnswers: MemoryAnswers;
  readonly traffic: NarTraffic;
  /** For the application. */
  readonly options: Pick<AppDeps["http"], "rates" | "onAnswered" | "inRequest" | "pageOrigins">;
  /** Why the socket of a worker is not to be opened: it is a page that asks, or somebody who asks all the time. */
  readonly refuseSocket: (request: IncomingMessage) => UpgradeRefusal | null;
  /** Null for everything else than the metrics. */
  readonly answerMetrics: (request: Request, env: HttpBindings) => Promise<Response | null>;
}

export function createFront({
  config,
  databases,
  loggers,
}: {
  readonly config: Config;
  readonly databases: Databases;
  readonly loggers: Loggers;
}): Front {
  const rates = config.rateLimited ? new RateLimits(systemClock) : undefined;
  const clientOf = createClientFinder(config.trustedProxies);
  const traffic = createNarTraffic({ db: databases.scheduler });
  const memoryAnswers = new MemoryAnswers();
  const { metricsToken: token } = config.reports;
  const metrics =
    token &&
    createMetrics({
      version: VERSION,
      measure: () => measureInstance({ db: databases.web, traffic }),
      takeFromMemory: () => memoryAnswers.take(),
    });
  const onAnswered = metrics?.onAnswered;
  const byRequest = { rates, clientOf: ({ incoming }: HttpBindings) => clientOf(incoming), log: loggers.main };
  return {
    gate: rates && new RequestGate({ clock: systemClock, rates, clientOf }),
    onAnswered,
    memoryAnswers,
    traffic,
    refuseSocket(request) {
      if (!mayOpenSocket(request.headers.origin, config)) return { status: 403, headers: {} };
      const waitMs = rates?.take("proto", clientOf(request)) ?? 0;
      return waitMs > 0 ? { status: 429, headers: refusalHeaders(new TooManyRequestsError(waitMs)) } : null;
    },
    options: { rates, onAnswered, inRequest, pageOrigins: [new URL(config.frontendUrl).origin] },
    answerMetrics: metrics ? createMetricsEndpoint({ metrics, token, ...byRequest }) : async () => null,
  };
}
