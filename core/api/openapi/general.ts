import type { InstanceView } from "../instance.ts";
import { file, json, type RouteGroup } from "./route.ts";

export const GENERAL = {
  tag: "General",
  description: "Whether the server answers, and what a client must know before anyone signs in.",
  routes: {
    "GET /health": { summary: "Say that the server answers", audience: "everybody", answer: json<string>() },
    "GET /config": { summary: "Describe the instance", audience: "everybody", answer: json<InstanceView>() },
    "GET /openapi.json": {
      summary: "Read this document",
      audience: "everybody",
      answer: file("application/json"),
    },
    "GET /docs": { summary: "Read this document as a page", audience: "everybody", answer: file("text/html") },
  },
} as const satisfies RouteGroup;
