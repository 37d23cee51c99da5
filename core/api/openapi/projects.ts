import { LatestQuery, type LatestView } from "../caches-retention.ts";
import type { CommitView } from "../commits.ts";
import type { EvaluationFrame } from "../evaluations.ts";
import { AddFlakeInputBody, ChangeFlakeInputBody, type FlakeInputView } from "../flake-inputs.ts";
import { NameQuery } from "../organizations.ts";
import { type Page, PageQuery } from "../pages.ts";
import {
  ChangeProjectBody,
  CreateProjectBody,
  EntryPointsQuery,
  type EntryPointView,
  EvaluateBody,
  type EvaluationSummary,
  EvaluationsQuery,
  type ProjectDetails,
  type ProjectView,
  TransferProjectBody,
} from "../projects.ts";
import { json, type RouteGroup, stream } from "./route.ts";

export const PROJECTS = {
  tag: "Projects",
  description: "What an organization evaluates, and how.",
  routes: {
    "GET /projects/{organization}": {
      summary: "List projects",
      audience: "reader",
      query: PageQuery,
      answer: json<Page<ProjectView>>(),
    },
    "PUT /projects/{organization}": {
      summary: "Create a project",
      description: "The answer is its id.",
      audience: "user",
      permissions: ["createProject"],
      body: CreateProjectBody,
      answer: json<string>(),
      errors: ["invalid_name", "already_exists"],
    },
    "GET /projects/{organization}/available": {
      summary: "Ask whether a name is free",
      audience: "user",
      permissions: ["viewOrg"],
      query: NameQuery,
      answer: json<boolean>(),
    },
    "GET /projects/{organization}/{project}": {
      summary: "Show a project",
      audience: "reader",
      answer: json<ProjectView>(),
    },
    "PATCH /projects/{organization}/{project}": {
      summary: "Change a project",
      audience: "user",
      permissions: ["editProject"],
      body: ChangeProjectBody,
      answer: json<string>(),
      errors: ["invalid_name", "already_exists"],
    },
    "DELETE /projects/{organization}/{project}": {
      summary: "Delete a project with its evaluations",
      audience: "user",
      permissions: ["editProject"],
      answer: json<string>(),
      errors: ["conflict"],
    },
    "POST /projects/{organization}/{project}/active": {
      summary: "Switch a project on",
      audience: "user",
      permissions: ["editProject"],
      answer: json<string>(),
    },
    "DELETE /projects/{organization}/{project}/active": {
      summary: "Switch a project off",
      audience: "user",
      permissions: ["editProject"],
      answer: json<string>(),
    },
    "POST /projects/{organization}/{project}/transfer": {
      summary: "Give a project to another organization",
      description: "Needs `createProject` there, and here `editProject` or to have created it.",
      audience: "user",
      body: TransferProjectBody,
      answer: json<string>(),
      errors: ["bad_request", "conflict", "already_exists"],
    },
    "POST /projects/{organization}/{project}/check-repository": {
      summary: "Ask the repository for its newest commit",
      description: "The answer is the commit, 40 hexadecimal digits.",
      audience: "user",
      permissions: ["editProject"],
      answer: json<string>(),
      errors: ["repository_unreachable"],
    },
    "POST /projects/{organization}/{project}/evaluate": {
      summary: "Start an evaluation",
      description: "The answer is a text for people; the header `Location` names the evaluation.",
      audience: "user",
      permissions: ["triggerEvaluation"],
      body: EvaluateBody,
      answer: json<string>(),
      errors: ["bad_request", "conflict", "repository_unreachable"],
    },
    "GET /projects/{organization}/{project}/evaluations": {
      summary: "List the newest evaluations",
      audience: "reader",
      query: EvaluationsQuery,
      answer: json<readonly EvaluationSummary[]>(),
    },
    "GET /projects/{organization}/{project}/details": {
      summary: "Show a project with its queue and its last evaluations",
      audience: "reader",
      answer: json<ProjectDetails>(),
    },
    "GET /projects/{organization}/{project}/entry-points": {
      summary: "List what an evaluation was asked for",
      audience: "reader",
      query: EntryPointsQuery,
      answer: json<readonly EntryPointView[]>(),
    },
    "GET /projects/{organization}/{project}/latest": {
      summary: "List the last success of each attribute",
      audience: "reader",
      query: LatestQuery,
      answer: json<readonly LatestView[]>(),
    },
    "GET /projects/{organization}/{project}/live": {
      summary: "Follow a project's evaluations",
      description: "A client that asks for a WebSocket gets the same frames there.",
      audience: "reader",
      answer: stream<EvaluationFrame>("text/event-stream"),
    },
    "GET /commits/{commit}": {
      summary: "Show a commit",
      audience: "reader",
      answer: json<CommitView>(),
      errors: ["validation"],
    },
  },
} as const satisfies RouteGroup;

export const FLAKE_INPUTS = {
  tag: "Flake inputs",
  description: "Inputs of a project's flake that are not what its lock file says.",
  routes: {
    "GET /projects/{organization}/{project}/flake-inputs": {
      summary: "List flake inputs",
      audience: "user",
      permissions: ["viewOrg"],
      answer: json<readonly FlakeInputView[]>(),
    },
    "POST /projects/{organization}/{project}/flake-inputs": {
      summary: "Add a flake input",
      audience: "user",
      permissions: ["editProject"],
      body: AddFlakeInputBody,
      answer: json<FlakeInputView>(),
      errors: ["bad_request"],
    },
    "GET /projects/{organization}/{project}/flake-inputs/{input}": {
      summary: "Show a flake input",
      audience: "user",
      permissions: ["viewOrg"],
      answer: json<FlakeInputView>(),
    },
    "PATCH /projects/{organization}/{project}/flake-inputs/{input}": {
      summary: "Change a flake input",
      audience: "user",
      permissions: ["editProject"],
      body: ChangeFlakeInputBody,
      answer: json<FlakeInputView>(),
      errors: ["bad_request"],
    },
    "DELETE /projects/{organization}/{project}/flake-inputs/{input}": {
      summary: "Remove a flake input",
      audience: "user",
      permissions: ["editProject"],
      answer: json<{ readonly deleted: boolean }>(),
    },
  },
} as const satisfies RouteGroup;
