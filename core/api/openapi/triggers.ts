import { ChangeTriggerBody, CreateTriggerBody, type TriggerTest, type TriggerView } from "../triggers.ts";
import { json, type RouteGroup } from "./route.ts";

const VIEW = { audience: "user", permissions: ["viewOrg"] } as const;
const MANAGE = { audience: "user", permissions: ["manageTriggers"] } as const;

export const TRIGGERS = {
  tag: "Triggers",
  description: "What begins a project's evaluations by itself.",
  routes: {
    "GET /projects/{organization}/{project}/triggers": {
      summary: "List triggers",
      ...VIEW,
      answer: json<readonly TriggerView[]>(),
    },
    "POST /projects/{organization}/{project}/triggers": {
      summary: "Add a trigger",
      ...MANAGE,
      body: CreateTriggerBody,
      answer: json<TriggerView>(),
      errors: ["bad_request", "conflict"],
    },
    "GET /projects/{organization}/{project}/triggers/{trigger}": {
      summary: "Show a trigger",
      ...VIEW,
      answer: json<TriggerView>(),
    },
    "PATCH /projects/{organization}/{project}/triggers/{trigger}": {
      summary: "Change a trigger",
      ...MANAGE,
      body: ChangeTriggerBody,
      answer: json<TriggerView>(),
      errors: ["bad_request", "conflict"],
    },
    "DELETE /projects/{organization}/{project}/triggers/{trigger}": {
      summary: "Remove a trigger",
      ...MANAGE,
      answer: json<string>(),
    },
    "POST /projects/{organization}/{project}/triggers/{trigger}/test": {
      summary: "Do what a trigger does, now",
      audience: "user",
      permissions: ["triggerEvaluation"],
      answer: json<TriggerTest>(),
      errors: ["bad_request", "conflict", "repository_unreachable"],
    },
  },
} as const satisfies RouteGroup;
