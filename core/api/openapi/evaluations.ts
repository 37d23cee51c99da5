import { EvaluationAction } from "../actions.ts";
import type { ClosureView, FlakeNodeView } from "../closures.ts";
import type { CompareView } from "../compare.ts";
import type { ArtefactsView } from "../downloads.ts";
import {
  BuildsQuery,
  type EvaluationBuilds,
  type EvaluationFrame,
  type EvaluationMessage,
  type EvaluationView,
} from "../evaluations.ts";
import type { VerdictView } from "../verdicts.ts";
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
    "GET /evals/{evaluation}/closure": {
      summary: "Show what it takes to build everything",
      audience: "reader",
      answer: json<ClosureView>(),
    },
    "GET /evals/{evaluation}/runtime-closure": {
      summary: "Show what it takes to run everything",
      audience: "reader",
      answer: json<ClosureView>(),
    },
    "GET /evals/{evaluation}/flake-graph": {
      summary: "Show the flake's outputs as a tree",
      audience: "reader",
      answer: json<readonly FlakeNodeView[]>(),
    },
    "GET /evals/{evaluation}/verdict": {
      summary: "Say why it is red",
      audience: "reader",
      answer: json<VerdictView>(),
    },
    "GET /evals/{evaluation}/compare/{other}": {
      summary: "Say what is otherwise than in another evaluation",
      audience: "reader",
      answer: json<CompareView>(),
    },
    "GET /evals/{evaluation}/live": {
      summary: "Follow an evaluation",
      description:
        "Frames say what changed; what they do not say is to be asked for again. A client that asks for a WebSocket " +
        "gets them there.",
      audience: "reader",
      answer: stream<EvaluationFrame>("text/event-stream"),
    },
  },
} as const satisfies RouteGroup;
