import {
  AvailableQuery,
  type CacheStatsView,
  type NarDetailsView,
  type NarStatsView,
  NarsQuery,
  type NarView,
} from "../caches-nars.ts";
import type { Page } from "../pages.ts";
import { json, type RouteGroup } from "./route.ts";

export const CACHE_NARS = {
  tag: "Cache contents",
  description: "What a cache holds and has sent.",
  routes: {
    "GET /caches/{cache}/stats": {
      summary: "What a cache holds and has sent, over time",
      description: "By minute, hour, day and week, in UTC. Spans in which nothing was sent are there, too.",
      audience: "reader",
      answer: json<CacheStatsView>(),
    },
    "GET /caches/{cache}/nars": {
      summary: "List paths",
      audience: "reader",
      query: NarsQuery,
      answer: json<Page<NarView>>(),
    },
    "GET /caches/{cache}/nars/stats": {
      summary: "Add up what a cache holds",
      audience: "reader",
      answer: json<NarStatsView>(),
    },
    "GET /caches/{cache}/nars/available": {
      summary: "Ask whether a path is served",
      audience: "reader",
      query: AvailableQuery,
      answer: json<{ readonly available: boolean }>(),
    },
    "GET /caches/{cache}/nars/{hash}": {
      summary: "Read about a path",
      audience: "reader",
      answer: json<NarDetailsView>(),
    },
  },
} as const satisfies RouteGroup;
