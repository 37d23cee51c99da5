import {
  ChangeWorkerBody,
  RegisterWorkerBody,
  type WorkerHistoryView,
  type WorkerRegistered,
  type WorkerTestView,
  type WorkerView,
} from "../workers.ts";
import { json, type RouteGroup } from "./route.ts";

export const WORKERS = {
  tag: "Workers",
  description: "The machines that evaluate and build for an organization.",
  routes: {
    "GET /orgs/{organization}/workers": {
      summary: "List workers",
      audience: "user",
      permissions: ["viewOrg"],
      answer: json<readonly WorkerView[]>(),
    },
    "POST /orgs/{organization}/workers": {
      summary: "Register a worker",
      audience: "user",
      permissions: ["manageWorkers"],
      body: RegisterWorkerBody,
      answer: json<WorkerRegistered>(),
      errors: ["already_exists", "conflict", "bad_request", "invalid_name"],
    },
    "PATCH /orgs/{organization}/workers/{worker}": {
      summary: "Change a worker",
      audience: "user",
      permissions: ["manageWorkers"],
      body: ChangeWorkerBody,
      answer: json<WorkerView>(),
      errors: ["conflict", "invalid_name"],
    },
    "DELETE /orgs/{organization}/workers/{worker}": {
      summary: "Remove a worker",
      audience: "user",
      permissions: ["manageWorkers"],
      answer: json<string>(),
      errors: ["conflict"],
    },
    "GET /orgs/{organization}/workers/{worker}/metrics": {
      summary: "Show what a worker measured, and when it was connected",
      audience: "user",
      permissions: ["viewOrg"],
      answer: json<WorkerHistoryView>(),
    },
    "POST /orgs/{organization}/workers/{worker}/test": {
      summary: "Ask whether a worker is there",
      audience: "user",
      permissions: ["viewOrg"],
      answer: json<WorkerTestView>(),
    },
  },
} as const satisfies RouteGroup;
