import { ACTION_EVENTS } from "../api/project-actions.ts";
import type { StateIntegration, StatePath, StateProject } from "../api/state.ts";
import { unknownWord } from "../api/state-fields.ts";
import type { StateAction, StateTrigger } from "../api/state-projects.ts";
import { inputPatternProblem } from "../nix/input-pattern.ts";
import { checkInputUrl, InputUrlError } from "../nix/input-url.ts";
import { checkActionConfig } from "./project-actions-rules.ts";
import { checkProjectFields } from "./projects-rules.ts";
import { type StateChecks, suggestion } from "./state-checks.ts";
import { checkTriggerConfig } from "./triggers-rules.ts";

const OVERRIDES_MAX = 256;
/** They come into being when the GitHub App is installed. */
const APP_INTEGRATION = /^github(?:-.*)?$/;

export function checkProjects(checks: StateChecks): void {
  for (const project of checks.document.projects) {
    const path = ["projects", project.key];
    checkFields(checks, path, project);
    checkOverrides(checks, path, project);
    checkTriggers(checks, path, project);
    project.actions.forEach((action, index) => {
      checkAction(checks, [...path, "actions", index], action);
    });
    checks.unique(
      project.actions.map((action, index) => ({ action, index })),
      ({ action }) => action.name,
      ({ action, index }) => ({ path: [...path, "actions", index, "name"], message: `${action.name} is used twice` }),
    );
  }
  checks.unique(
    checks.document.projects,
    ({ name, organization }) => JSON.stringify([organization, name]),
    ({ key, name, organization }) => ({
      path: ["projects", key],
      message: `the project ${name} of ${organization} is declared twice in this file`,
    }),
  );
}

function checkFields(checks: StateChecks, path: StatePath, project: StateProject): void {
  const { allowLocalSources } = checks.rules;
  // How many a server keeps at most is its own option: more is cut to that when the file is applied.
  const settings = { allowLocalSources, keepEvaluations: 0 };
  for (const field of ["name", "repository", "wildcard", "deploy_branch"] as const) {
    checks.require([...path, field], () => checkProjectFields({ [field]: project[field] }, settings));
  }
  checks.organization([...path, "organization"], project.organization);
  checks.user([...path, "created_by"], project.created_by);
}

function checkOverrides(checks: StateChecks, path: StatePath, project: StateProject): void {
  const entries = Object.entries(project.flake_input_overrides);
  const at = [...path, "flake_input_overrides"];
  if (entries.length > OVERRIDES_MAX) checks.report(at, `has more than ${OVERRIDES_MAX} entries: use patterns`);
  for (const [input, { url, keep_url }] of entries) {
    if ((url != null) === keep_url) checks.report([...at, input], "needs exactly one of url and keep_url = true");
    const problem = inputPatternProblem(input);
    if (problem !== null) checks.report([...at, input], `is no name of an input: ${problem}`);
    if (url == null) continue;
    try {
      checkInputUrl(url, { allowLocal: checks.rules.allowLocalSources });
    } catch (error) {
      if (!(error instanceof InputUrlError)) throw error;
      checks.report([...at, input, "url"], `names no flake: ${error.message}`);
    }
  }
}

function checkTriggers(checks: StateChecks, path: StatePath, project: StateProject): void {
  const triggers = project.triggers ?? [];
  triggers.forEach((trigger, index) => {
    checkTrigger(checks, [...path, "triggers", index], project, trigger);
  });
  checks.unique(
    triggers.map((trigger, index) => ({ trigger, index })),
    ({ trigger }) => JSON.stringify([trigger.type, trigger.integration ?? null, trigger.config]),
    ({ index }) => ({ path: [...path, "triggers", index], message: "is the same as one before it" }),
  );
}

function checkTrigger(checks: StateChecks, path: StatePath, project: StateProject, trigger: StateTrigger): void {
  if (trigger.type === "time") {
    const { cron } = trigger.config;
    return checks.require([...path, "config", "cron"], () => checkTriggerConfig({ type: "time", cron }));
  }
  if (trigger.type === "polling") {
    const config = { type: "polling" as const, ...trigger.config, branch: trigger.config.branch ?? null };
    return checks.require([...path, "config", "branch"], () => checkTriggerConfig(config));
  }
  checkIntegration(checks, [...path, "integration"], project, { name: trigger.integration, kind: "inbound" });
}

function checkIntegration(
  checks: StateChecks,
  path: StatePath,
  project: StateProject,
  { name, kind }: { readonly name: string; readonly kind: StateIntegration["kind"] },
): void {
  const known = checks.integrationsOf(project.organization, kind);
  if (known.includes(name) || APP_INTEGRATION.test(name)) return;
  const where = `of ${project.organization} is declared in this file`;
  checks.report(path, `no ${kind} integration ${name} ${where}${suggestion(name, known)}`);
}

function checkAction(checks: StateChecks, path: StatePath, action: StateAction): void {
  action.events.forEach((event, index) => {
    if (typeof event === "string" && !(ACTION_EVENTS as readonly string[]).includes(event)) {
      checks.report([...path, "events", index], `${event} ${unknownWord(event, ACTION_EVENTS)}`);
    }
  });
  switch (action.type) {
    case "send_mail": {
      const { recipients, subject_template } = action.config;
      const config = { type: "send_mail" as const, recipients, subject_template: subject_template ?? null };
      // Where it is not known whether mail goes out, that is looked at when the server starts.
      const mailIsOn = checks.rules.mailEnabled ?? true;
      return checks.require([...path, "config"], () => checkActionConfig(config, { mailIsOn }));
    }
    case "send_web_request": {
      const config = { type: "send_web_request" as const, url: action.config.url, token: null };
      return checks.require([...path, "config"], () => checkActionConfig(config, { mailIsOn: true }));
    }
    case "forge_status_report":
    case "open_pr":
      checks.report([...path, "type"], `${action.type} is nothing that this server can do yet: leave the action out`);
  }
}
