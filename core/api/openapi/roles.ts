import type { RealmAuditEventView } from "../audit.ts";
import { MemberBody, type MemberView, RemoveMemberBody } from "../organizations.ts";
import { type Page, PageQuery } from "../pages.ts";
import {
  type CacheRoleView,
  ChangeRoleBody,
  CreateRoleBody,
  type OrganizationRoleView,
  type RoleListView,
} from "../roles.ts";
import { json, type RouteGroup } from "./route.ts";

const VIEW_ORGANIZATION = { audience: "user", permissions: ["viewOrg"] } as const;
const MANAGE_ROLES = { audience: "user", permissions: ["manageRoles"] } as const;
const VIEW_CACHE = { audience: "user", permissions: ["viewCache"] } as const;
const MANAGE_CACHE_ROLES = { audience: "user", permissions: ["manageCacheRoles"] } as const;
const MANAGE_CACHE_MEMBERS = { audience: "user", permissions: ["manageCacheMembers"], answer: json<string>() } as const;
const ROLE_ERRORS = ["bad_request", "conflict", "invalid_name", "already_exists"] as const;

export const ORGANIZATION_ROLES = {
  tag: "Roles",
  description: "What members of an organization may do, and what was done.",
  routes: {
    "GET /orgs/{organization}/roles": {
      summary: "List roles, and what a role can hold",
      ...VIEW_ORGANIZATION,
      answer: json<RoleListView<OrganizationRoleView>>(),
    },
    "POST /orgs/{organization}/roles": {
      summary: "Create a role",
      ...MANAGE_ROLES,
      body: CreateRoleBody,
      answer: json<OrganizationRoleView>(),
      errors: ROLE_ERRORS,
    },
    "GET /orgs/{organization}/roles/{role}": {
      summary: "Show a role",
      ...VIEW_ORGANIZATION,
      answer: json<OrganizationRoleView>(),
    },
    "PATCH /orgs/{organization}/roles/{role}": {
      summary: "Change a role",
      ...MANAGE_ROLES,
      body: ChangeRoleBody,
      answer: json<OrganizationRoleView>(),
      errors: ROLE_ERRORS,
    },
    "DELETE /orgs/{organization}/roles/{role}": {
      summary: "Delete a role that nobody has",
      ...MANAGE_ROLES,
      answer: json<boolean>(),
      errors: ["bad_request", "conflict"],
    },
    "GET /orgs/{organization}/audit-log": {
      summary: "List what was done to an organization",
      audience: "user",
      permissions: ["manageOrgSettings"],
      query: PageQuery,
      answer: json<Page<RealmAuditEventView>>(),
    },
  },
} as const satisfies RouteGroup;

export const CACHE_MEMBERS = {
  tag: "Cache members",
  description: "Who belongs to a cache, what they may do there, and what was done.",
  routes: {
    "GET /caches/{cache}/members": { summary: "List members", ...VIEW_CACHE, answer: json<readonly MemberView[]>() },
    "POST /caches/{cache}/members": {
      summary: "Add a member",
      ...MANAGE_CACHE_MEMBERS,
      body: MemberBody,
      errors: ["conflict"],
    },
    "PATCH /caches/{cache}/members": {
      summary: "Give a member another role",
      ...MANAGE_CACHE_MEMBERS,
      body: MemberBody,
      errors: ["bad_request", "conflict"],
    },
    "DELETE /caches/{cache}/members": {
      summary: "Remove a member",
      ...MANAGE_CACHE_MEMBERS,
      body: RemoveMemberBody,
      errors: ["bad_request", "conflict"],
    },
    "DELETE /caches/{cache}/members/{user}": {
      summary: "Remove a member",
      ...MANAGE_CACHE_MEMBERS,
      errors: ["validation", "bad_request", "conflict"],
    },
    "GET /caches/{cache}/roles": {
      summary: "List roles, and what a role can hold",
      ...VIEW_CACHE,
      answer: json<RoleListView<CacheRoleView>>(),
    },
    "POST /caches/{cache}/roles": {
      summary: "Create a role",
      ...MANAGE_CACHE_ROLES,
      body: CreateRoleBody,
      answer: json<CacheRoleView>(),
      errors: ROLE_ERRORS,
    },
    "GET /caches/{cache}/roles/{role}": { summary: "Show a role", ...VIEW_CACHE, answer: json<CacheRoleView>() },
    "PATCH /caches/{cache}/roles/{role}": {
      summary: "Change a role",
      ...MANAGE_CACHE_ROLES,
      body: ChangeRoleBody,
      answer: json<CacheRoleView>(),
      errors: ROLE_ERRORS,
    },
    "DELETE /caches/{cache}/roles/{role}": {
      summary: "Delete a role that nobody has",
      ...MANAGE_CACHE_ROLES,
      answer: json<boolean>(),
      errors: ["bad_request", "conflict"],
    },
    "GET /caches/{cache}/audit-log": {
      summary: "List what was done to a cache",
      audience: "user",
      permissions: ["manageCacheSettings"],
      query: PageQuery,
      answer: json<Page<RealmAuditEventView>>(),
    },
  },
} as const satisfies RouteGroup;
