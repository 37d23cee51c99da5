import { EvaluationAction } from "../actions.ts";
import type { ArtefactsView } from "../downloads.ts";
import {
  BuildsQuery,
  type EvaluationBuilds,
  type EvaluationFrame,
  type EvaluationMessage,
  type EvaluationView,
} from "../evaluations.ts";
import { json, type RouteGroup, stream } from "./route.ts";

export const EVALUATIONS = {
  tag: "Evaluations",
  description: "One run over a commit, with its builds and its messages.",
  routes: {
    "GET /evals/{evaluation}": { summary: "Show an evaluation", audience: "reader", answer: json<EvaluationView>() },
    "POST /evals/{evaluation}": {
      summary: "Abort, approve or prioritize an evaluation",
      audience: "user",
      permissions: ["triggerEvaluation"],
      body: EvaluationAction,
      answer: json<string>(),
      errors: ["conflict"],
    },
    "GET /evals/{evaluation}/builds": {
      summary: "List builds",
      audience: "reader",
      query: BuildsQuery,
      answer: json<EvaluationBuilds>(),
    },
    "POST /evals/{evaluation}/builds": {
      summary: "Follow the logs of all builds",
      description: "Each line is a JSON string; a silent while is an empty one. It ends with the evaluation.",
      audience: "user",
      permissions: ["viewOrg"],
      answer: stream<string>("application/x-ndjson"),
    },
    "GET /evals/{evaluation}/messages": {
      summary: "List errors, warnings and notices",
      audience: "reader",
      answer: json<readonly EvaluationMessage[]>(),
    },
    "GET /evals/{evaluation}/artefacts": {
      summary: "List outputs and the files that they offer",
      audience: "reader",
      answer: json<ArtefactsView>(),
    },
    "GET /evals/{evaluation}/live": {
      summary: "Follow an evaluation",
      description: "Frames say what changed; what they do not say is to be asked for again.",
      audience: "reader",
      answer: stream<EvaluationFrame>("text/event-stream"),
    },
  },
} as const satisfies RouteGroup;
