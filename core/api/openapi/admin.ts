import { type ConnectedWorkerView, DrainingBody, type DrainingView } from "../admin.ts";
import { StateQuery } from "../admin-state.ts";
import { type AdminTaskView, type IntegrityView, type TaskStartedView, VerifyBody } from "../admin-tasks.ts";
import { DeepSweepBody } from "../caches-retention.ts";
import { file, json, type RouteGroup } from "./route.ts";

export const ADMIN = {
  tag: "Administration",
  description: "What superusers do about the whole instance.",
  routes: {
    "GET /admin/workers": {
      summary: "List the workers that are connected",
      description: "For everyone who is signed in where the instance shows its figures.",
      audience: "superuser",
      answer: json<readonly ConnectedWorkerView[]>(),
    },
    "POST /admin/draining": {
      summary: "Give out nothing new, or go on",
      audience: "superuser",
      body: DrainingBody,
      answer: json<DrainingView>(),
    },
    "GET /admin/state": {
      summary: "Show what the server holds, as a state file would declare it",
      description: "A Nix expression, or with `format=json` the same as JSON. Secrets are not in it.",
      audience: "superuser",
      query: StateQuery,
      answer: file("text/plain", "application/json"),
    },
    "POST /admin/maintenance/verify": {
      summary: "Read what is stored and check it",
      audience: "superuser",
      body: VerifyBody,
      answer: json<TaskStartedView>(202),
      errors: ["conflict", "not_found"],
    },
    "POST /admin/maintenance/repair": {
      summary: "Repair what is damaged",
      audience: "superuser",
      answer: json<TaskStartedView>(202),
      errors: ["conflict"],
    },
    "POST /admin/maintenance/deep-gc": {
      summary: "Remove objects that no row names",
      audience: "superuser",
      body: DeepSweepBody,
      answer: json<TaskStartedView>(202),
      errors: ["conflict"],
    },
    "GET /admin/integrity": {
      summary: "Show what is known of stored files",
      audience: "superuser",
      answer: json<IntegrityView>(),
    },
    "GET /admin/tasks": {
      summary: "List the newest tasks",
      audience: "superuser",
      answer: json<readonly AdminTaskView[]>(),
    },
    "GET /admin/tasks/{task}": { summary: "Show a task", audience: "superuser", answer: json<AdminTaskView>() },
    "POST /admin/tasks/{task}/cancel": {
      summary: "Cancel a task",
      audience: "superuser",
      answer: json<AdminTaskView>(),
      errors: ["conflict"],
    },
  },
} as const satisfies RouteGroup;
