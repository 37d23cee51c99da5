import {
  ChangeIntegrationBody,
  CreateIntegrationBody,
  type IntegrationSummaryView,
  type IntegrationView,
} from "../integrations.ts";
import { json, type RouteGroup } from "./route.ts";

const MANAGE = { audience: "user", permissions: ["manageIntegrations"] } as const;

export const INTEGRATIONS = {
  tag: "Integrations",
  description: "The forges of an organization.",
  routes: {
    "GET /orgs/{organization}/integrations": {
      summary: "List integrations",
      ...MANAGE,
      answer: json<readonly IntegrationView[]>(),
    },
    "PUT /orgs/{organization}/integrations": {
      summary: "Add an integration",
      description: "The answer is its id.",
      ...MANAGE,
      body: CreateIntegrationBody,
      answer: json<string>(),
      errors: ["bad_request", "invalid_name", "invalid_allowed_ip", "already_exists", "conflict"],
    },
    "GET /orgs/{organization}/integrations/summary": {
      summary: "List integrations to choose from",
      audience: "user",
      permissions: ["viewOrg"],
      answer: json<readonly IntegrationSummaryView[]>(),
    },
    "GET /orgs/{organization}/integrations/{integration}": {
      summary: "Show an integration",
      ...MANAGE,
      answer: json<IntegrationView>(),
    },
    "PATCH /orgs/{organization}/integrations/{integration}": {
      summary: "Change an integration",
      ...MANAGE,
      body: ChangeIntegrationBody,
      answer: json<IntegrationView>(),
      errors: ["bad_request", "invalid_name", "invalid_allowed_ip", "already_exists"],
    },
    "DELETE /orgs/{organization}/integrations/{integration}": {
      summary: "Remove an integration",
      ...MANAGE,
      answer: json<boolean>(),
      errors: ["conflict"],
    },
  },
} as const satisfies RouteGroup;
