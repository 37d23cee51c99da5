import {
  type ActionView,
  ChangeActionBody,
  CreateActionBody,
  type CreatedAction,
  DeliveriesQuery,
  type DeliveryDetail,
  type DeliveryView,
} from "../project-actions.ts";
import { json, type RouteGroup } from "./route.ts";

const VIEW = { audience: "user", permissions: ["viewOrg"] } as const;
const MANAGE = { audience: "user", permissions: ["manageActions"] } as const;
const CONFIG_ERRORS = ["bad_request", "conflict", "already_exists", "unprocessable_entity"] as const;

export const ACTIONS = {
  tag: "Actions",
  description: "What is done when something happens in a project: mails, requests to other servers.",
  routes: {
    "GET /projects/{organization}/{project}/actions": {
      summary: "List actions",
      ...VIEW,
      answer: json<readonly ActionView[]>(),
    },
    "POST /projects/{organization}/{project}/actions": {
      summary: "Add an action",
      ...MANAGE,
      body: CreateActionBody,
      answer: json<CreatedAction>(),
      errors: CONFIG_ERRORS,
    },
    "GET /projects/{organization}/{project}/actions/{action}": {
      summary: "Show an action",
      ...VIEW,
      answer: json<ActionView>(),
    },
    "PATCH /projects/{organization}/{project}/actions/{action}": {
      summary: "Change an action",
      ...MANAGE,
      body: ChangeActionBody,
      answer: json<ActionView>(),
      errors: CONFIG_ERRORS,
    },
    "DELETE /projects/{organization}/{project}/actions/{action}": {
      summary: "Remove an action",
      ...MANAGE,
      answer: json<string>(),
    },
    "POST /projects/{organization}/{project}/actions/{action}/test": {
      summary: "Do what an action does, with a made-up event",
      ...MANAGE,
      answer: json<null>(),
      errors: CONFIG_ERRORS,
    },
    "POST /projects/{organization}/{project}/actions/{action}/regenerate-token": {
      summary: "Make a new token for an action's requests",
      description: "The answer holds it. It is shown this once.",
      ...MANAGE,
      answer: json<{ readonly token: string }>(),
      errors: ["unprocessable_entity"],
    },
    "GET /projects/{organization}/{project}/actions/{action}/deliveries": {
      summary: "List what an action did",
      ...VIEW,
      query: DeliveriesQuery,
      answer: json<readonly DeliveryView[]>(),
    },
    "GET /projects/{organization}/{project}/actions/{action}/deliveries/{delivery}": {
      summary: "Show what an action sent, and what it got",
      ...MANAGE,
      answer: json<DeliveryDetail>(),
    },
  },
} as const satisfies RouteGroup;
