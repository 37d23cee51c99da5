import { type DispatchedJobs, type JobDetail, type PendingJobs, ScoringQuery, type ScoringSummary } from "../board.ts";
import { type UpstreamFigures, UpstreamsQuery } from "../board-upstreams.ts";
import { json, type RouteGroup } from "./route.ts";

export const BOARD = {
  tag: "Board",
  description: "What is given to which worker, and why. Everyone sees what they may see.",
  routes: {
    "GET /board/jobs/dispatched": { summary: "List what runs", audience: "reader", answer: json<DispatchedJobs>() },
    "GET /board/jobs/pending": { summary: "List what could begin", audience: "reader", answer: json<PendingJobs>() },
    "GET /board/jobs/{job}": { summary: "Show an assignment", audience: "reader", answer: json<JobDetail>() },
    "GET /board/cache/upstreams": {
      summary: "Show how upstreams answer",
      audience: "reader",
      query: UpstreamsQuery,
      answer: json<{ readonly upstreams: readonly UpstreamFigures[] }>(),
    },
    "GET /board/scoring/rules": {
      summary: "List the rules by which workers are chosen",
      audience: "everybody",
      answer: json<readonly { readonly rule: string; readonly description: string }[]>(),
    },
    "GET /board/scoring/summary": {
      summary: "Sum up what the rules gave",
      audience: "reader",
      query: ScoringQuery,
      answer: json<ScoringSummary>(),
    },
  },
} as const satisfies RouteGroup;
