import type { AuditEventView } from "../audit.ts";
import type { UserView } from "../auth.ts";
import { ChangeKeyBody, CreateKeyBody, DeleteKeyBody, type KeyPermissionsView, type KeyView } from "../keys.ts";
import { type Page, PageQuery } from "../pages.ts";
import {
  ChangePasswordBody,
  ChangeSettingsBody,
  DeleteUserBody,
  type FoundUserView,
  SearchUsersQuery,
  type SessionView,
  type SettingsView,
} from "../user.ts";
import { json, type RouteGroup } from "./route.ts";

export const USER = {
  tag: "User",
  description: "The signed-in user and their API keys. Only sessions manage keys.",
  routes: {
    "GET /user": { summary: "Show the own account", audience: "user", answer: json<UserView>() },
    "DELETE /user": {
      summary: "Delete the own account",
      audience: "user",
      body: DeleteUserBody,
      answer: json<string>(),
      errors: ["conflict"],
    },
    "GET /user/search": {
      summary: "Find users",
      audience: "user",
      query: SearchUsersQuery,
      answer: json<readonly FoundUserView[]>(),
    },
    "GET /user/settings": { summary: "Show the own settings", audience: "user", answer: json<SettingsView>() },
    "PATCH /user/settings": {
      summary: "Change the own settings",
      description: "Where the server sends mails, a new `email` comes with `current_password`.",
      audience: "user",
      body: ChangeSettingsBody,
      answer: json<string>(),
      errors: ["invalid_username", "invalid_name", "invalid_email", "already_exists"],
    },
    "POST /user/password": {
      summary: "Change the own password",
      description: "All other sessions end.",
      audience: "user",
      body: ChangePasswordBody,
      answer: json<string>(),
      errors: ["invalid_password", "invalid_credentials", "oauth_required", "conflict"],
    },
    "GET /user/sessions": {
      summary: "List where one is signed in",
      audience: "user",
      answer: json<readonly SessionView[]>(),
    },
    "DELETE /user/sessions": { summary: "End all sessions but this one", audience: "user", answer: json<string>() },
    "DELETE /user/sessions/{session}": { summary: "End a session", audience: "user", answer: json<string>() },
    "GET /user/audit-log": {
      summary: "List what one did",
      audience: "user",
      query: PageQuery,
      answer: json<Page<AuditEventView>>(),
    },
    "GET /user/keys": { summary: "List the own API keys", audience: "user", answer: json<readonly KeyView[]>() },
    "POST /user/keys": {
      summary: "Make an API key",
      description: "The answer is the key itself. It is shown this once.",
      audience: "user",
      body: CreateKeyBody,
      answer: json<string>(),
      errors: ["forbidden", "invalid_name", "invalid_allowed_ip", "already_exists", "bad_request", "conflict"],
    },
    "DELETE /user/keys": {
      summary: "Delete an API key by its name",
      audience: "user",
      body: DeleteKeyBody,
      answer: json<string>(),
      errors: ["forbidden", "not_found"],
    },
    "GET /user/keys/permissions": {
      summary: "List what a key can be given",
      audience: "user",
      answer: json<KeyPermissionsView>(),
    },
    "PATCH /user/keys/{key}": {
      summary: "Change an API key",
      audience: "user",
      body: ChangeKeyBody,
      answer: json<KeyView>(),
      errors: ["forbidden", "invalid_name", "invalid_allowed_ip", "already_exists"],
    },
    "POST /user/keys/{key}/revoke": {
      summary: "Revoke an API key",
      audience: "user",
      answer: json<string>(),
      errors: ["forbidden"],
    },
  },
} as const satisfies RouteGroup;
