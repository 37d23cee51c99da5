import { ACTIONS } from "./actions.ts";
import { ADMIN } from "./admin.ts";
import { AUTH, DEVICES, SINGLE_SIGN_ON } from "./auth.ts";
import { BOARD } from "./board.ts";
import { BUILD_REQUESTS } from "./build-requests.ts";
import { BUILDS } from "./builds.ts";
import { CACHE_KEYS, CACHE_UPSTREAMS, CACHES } from "./caches.ts";
import { CACHE_RETENTION, CACHE_UPLOADS } from "./caches-contents.ts";
import { CACHE_NARS } from "./caches-nars.ts";
import { EVALUATIONS } from "./evaluations.ts";
import { GENERAL } from "./general.ts";
import { HOSTS } from "./hosts.ts";
import { INTEGRATIONS } from "./integrations.ts";
import { PROJECT_METRICS } from "./metrics.ts";
import { ORGANIZATIONS } from "./organizations.ts";
import { FLAKE_INPUTS, PROJECTS } from "./projects.ts";
import { CACHE_MEMBERS, ORGANIZATION_ROLES } from "./roles.ts";
import type { RouteName, RouteSpec } from "./route.ts";
import { TRIGGERS } from "./triggers.ts";
import { USER } from "./user.ts";
import { WORKERS } from "./workers.ts";

/** Every route below the prefix, in the order of the document. A route that is not here fails a test. */
export const ROUTE_GROUPS = [
  GENERAL,
  AUTH,
  SINGLE_SIGN_ON,
  DEVICES,
  USER,
  ORGANIZATIONS,
  ORGANIZATION_ROLES,
  INTEGRATIONS,
  WORKERS,
  PROJECTS,
  PROJECT_METRICS,
  FLAKE_INPUTS,
  TRIGGERS,
  ACTIONS,
  HOSTS,
  EVALUATIONS,
  BUILDS,
  BUILD_REQUESTS,
  CACHES,
  CACHE_MEMBERS,
  CACHE_KEYS,
  CACHE_UPSTREAMS,
  CACHE_NARS,
  CACHE_UPLOADS,
  CACHE_RETENTION,
  BOARD,
  ADMIN,
] as const;

type Together<Union> = (Union extends unknown ? (one: Union) => void : never) extends (all: infer All) => void
  ? All
  : never;

/** All routes by their names, with the exact types of their schemas and answers. */
export type Routes = Together<(typeof ROUTE_GROUPS)[number]["routes"]>;

export const ROUTES: ReadonlyMap<RouteName, RouteSpec> = new Map(
  ROUTE_GROUPS.flatMap(({ routes }) => Object.entries<RouteSpec>(routes) as [RouteName, RouteSpec][]),
);
