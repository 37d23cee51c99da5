import { BuildAction } from "../actions.ts";
import {
  type BuildDependency,
  type BuildView,
  type LogChunksView,
  LogLinesQuery,
  type LogSearchEnd,
  type LogSearchHit,
  LogSearchQuery,
} from "../builds.ts";
import type { BuildGraphView, ClosureView } from "../closures.ts";
import { DownloadQuery, type DownloadView } from "../downloads.ts";
import type { EvaluationFrame } from "../evaluations.ts";
import { file, json, type RouteGroup, stream } from "./route.ts";

export const BUILDS = {
  tag: "Builds",
  description: "A build as one evaluation sees it, its log, and the files that it offers.",
  routes: {
    "GET /builds/{build}": { summary: "Show a build", audience: "reader", answer: json<BuildView>() },
    "POST /builds/{build}": {
      summary: "Abort, restart or prioritize a build",
      description: "The answer is a text for people; the header `Location` names the evaluation.",
      audience: "user",
      permissions: ["triggerEvaluation"],
      body: BuildAction,
      answer: json<string>(),
      errors: ["conflict"],
    },
    "GET /builds/{build}/dependencies": {
      summary: "List what a build needs directly",
      audience: "reader",
      answer: json<readonly BuildDependency[]>(),
    },
    "GET /builds/{build}/graph": {
      summary: "Show what a build needs, nearest first",
      audience: "reader",
      answer: json<BuildGraphView>(),
    },
    "GET /builds/{build}/closure": {
      summary: "Show what it takes to build it",
      audience: "reader",
      answer: json<ClosureView>(),
    },
    "GET /builds/{build}/runtime-closure": {
      summary: "Show what it takes to run it",
      audience: "reader",
      answer: json<ClosureView>(),
    },
    "GET /builds/{build}/live": {
      summary: "Follow the evaluation of a build",
      description: "A client that asks for a WebSocket gets the same frames there.",
      audience: "reader",
      answer: stream<EvaluationFrame>("text/event-stream"),
    },
    "GET /builds/{build}/log": { summary: "Read the whole log", audience: "reader", answer: json<string>() },
    "POST /builds/{build}/log": {
      summary: "Follow the log",
      description: "Each line is a JSON string, all of them together are the log. It ends with the build.",
      audience: "user",
      permissions: ["viewOrg"],
      answer: stream<string>("application/x-ndjson"),
    },
    "GET /builds/{build}/log/chunks": {
      summary: "Describe the parts of the log",
      audience: "reader",
      answer: json<LogChunksView>(),
    },
    "GET /builds/{build}/log/chunk/{index}": {
      summary: "Read a part of the log",
      audience: "reader",
      answer: file("text/plain"),
    },
    "GET /builds/{build}/log/lines": {
      summary: "Read lines of the log",
      audience: "reader",
      query: LogLinesQuery,
      answer: file("text/plain"),
    },
    "GET /builds/{build}/log/search": {
      summary: "Search the log",
      audience: "reader",
      query: LogSearchQuery,
      answer: stream<LogSearchHit | LogSearchEnd>("application/x-ndjson"),
    },
    "GET /builds/{build}/downloads": {
      summary: "List the files that a build offers",
      audience: "reader",
      answer: json<readonly DownloadView[]>(),
    },
    "GET /builds/{build}/download-token": {
      summary: "Make a token for links to a build's files",
      description: "It is good for an hour.",
      audience: "user",
      permissions: ["viewOrg"],
      answer: json<string>(),
    },
    "GET /builds/{build}/download/{file}": {
      summary: "Download a file",
      description: "A folder comes as a compressed tar file.",
      audience: "reader",
      query: DownloadQuery,
      answer: file("application/octet-stream"),
      errors: ["unauthorized", "forbidden", "forbidden_source_ip"],
    },
  },
} as const satisfies RouteGroup;
