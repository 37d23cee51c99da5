import { BadgeQuery, EntryPointDownloadQuery } from "../badges.ts";
import { type EntryPointMetrics, EntryPointMetricsQuery, type ProjectMetrics } from "../projects-metrics.ts";
import { file, json, type RouteGroup } from "./route.ts";

const EVALUATIONS = {
  summary: "Show what evaluations took",
  audience: "reader",
  answer: json<ProjectMetrics>(),
} as const;
const ENTRY_POINT = {
  summary: "Show what an entry point took, evaluation by evaluation",
  audience: "reader",
  query: EntryPointMetricsQuery,
  answer: json<EntryPointMetrics>(),
} as const;

export const PROJECT_METRICS = {
  tag: "Project metrics",
  description: "What a project's evaluations took, what its entry points offer, and its badge.",
  routes: {
    "GET /projects/{organization}/{project}/metrics": EVALUATIONS,
    "GET /metrics/projects/{organization}/{project}/evaluations": EVALUATIONS,
    "GET /projects/{organization}/{project}/entry-point-metrics": ENTRY_POINT,
    "GET /metrics/projects/{organization}/{project}/entry-point": ENTRY_POINT,
    "GET /projects/{organization}/{project}/entry-point-downloads": {
      summary: "Download a file of an entry point's last success",
      audience: "reader",
      query: EntryPointDownloadQuery,
      answer: file("application/octet-stream"),
      errors: ["unauthorized", "forbidden_source_ip"],
    },
    "GET /projects/{organization}/{project}/badge": {
      summary: "Draw how the last evaluation, or one entry point of it, stands",
      audience: "reader",
      query: BadgeQuery,
      answer: file("image/svg+xml"),
      errors: ["unauthorized", "forbidden_source_ip"],
    },
  },
} as const satisfies RouteGroup;
