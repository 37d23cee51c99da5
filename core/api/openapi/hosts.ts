import {
  type DeploymentView,
  HoldBody,
  type HoldView,
  type HostReportAnswer,
  HostReportBody,
  type HostView,
  WantedQuery,
  type WantedView,
} from "../hosts.ts";
import { type Page, PageQuery } from "../pages.ts";
import { json, type RouteGroup } from "./route.ts";

export const HOSTS = {
  tag: "Hosts",
  description: "Machines that run what a project builds: what they are to run, and what they do run.",
  routes: {
    "GET /orgs/{organization}/hosts": {
      summary: "List the hosts of all projects",
      audience: "user",
      permissions: ["viewOrg"],
      query: PageQuery,
      answer: json<Page<HostView>>(),
    },
    "GET /projects/{organization}/{project}/hosts": {
      summary: "List hosts",
      description: "Those that told of themselves, and those that the newest evaluation of the deploy branch names.",
      audience: "user",
      permissions: ["viewOrg"],
      query: PageQuery,
      answer: json<Page<HostView>>(),
    },
    "GET /projects/{organization}/{project}/hosts/{host}": {
      summary: "Show a host",
      audience: "user",
      permissions: ["viewOrg"],
      answer: json<HostView>(),
    },
    "DELETE /projects/{organization}/{project}/hosts/{host}": {
      summary: "Forget a host with its history",
      description: "It is known again by its next report.",
      audience: "user",
      permissions: ["editProject"],
      answer: json<string>(),
    },
    "GET /projects/{organization}/{project}/hosts/{host}/wanted": {
      summary: "Ask what a host is to run",
      description:
        "With `wait`, and what was seen last, it answers when that is another, or after so many seconds (at most 50).",
      audience: "reader",
      query: WantedQuery,
      answer: json<WantedView>(),
      errors: ["too_many_requests", "service_unavailable"],
    },
    "POST /projects/{organization}/{project}/hosts/{host}/reports": {
      summary: "Report a step of a deployment",
      description: "The same report changes nothing when it comes again; an older one fills the history alone.",
      audience: "user",
      permissions: ["reportDeployments"],
      body: HostReportBody,
      answer: json<HostReportAnswer>(),
      errors: ["conflict"],
    },
    "GET /projects/{organization}/{project}/hosts/{host}/history": {
      summary: "List a host's deployments",
      description: "The newest first; the last hundred are kept.",
      audience: "user",
      permissions: ["viewOrg"],
      query: PageQuery,
      answer: json<Page<DeploymentView>>(),
    },
    "POST /projects/{organization}/{project}/hosts/{host}/release": {
      summary: "Let a host try again what failed on it",
      audience: "user",
      permissions: ["triggerEvaluation"],
      answer: json<string>(),
    },
    "GET /projects/{organization}/{project}/deployments": {
      summary: "List commits that are kept from hosts",
      audience: "user",
      permissions: ["viewOrg"],
      query: PageQuery,
      answer: json<Page<HoldView>>(),
    },
    "POST /projects/{organization}/{project}/deployments/{build}/hold": {
      summary: "Keep a build's commit from hosts",
      audience: "user",
      permissions: ["triggerEvaluation"],
      body: HoldBody,
      answer: json<string>(),
      errors: ["conflict"],
    },
    "POST /projects/{organization}/{project}/deployments/{build}/release": {
      summary: "Let hosts have a commit again",
      audience: "user",
      permissions: ["triggerEvaluation"],
      answer: json<string>(),
    },
  },
} as const satisfies RouteGroup;
