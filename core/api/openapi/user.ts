import type { UserView } from "../auth.ts";
import { ChangeKeyBody, CreateKeyBody, DeleteKeyBody, type KeyPermissionsView, type KeyView } from "../keys.ts";
import { json, type RouteGroup } from "./route.ts";

export const USER = {
  tag: "User",
  description: "The signed-in user and their API keys. Only sessions manage keys.",
  routes: {
    "GET /user": { summary: "Show the own account", audience: "user", answer: json<UserView>() },
    "GET /user/keys": { summary: "List the own API keys", audience: "user", answer: json<readonly KeyView[]>() },
    "POST /user/keys": {
      summary: "Make an API key",
      description: "The answer is the key itself. It is shown this once.",
      audience: "user",
      body: CreateKeyBody,
      answer: json<string>(),
      errors: ["forbidden", "invalid_name", "invalid_allowed_ip", "already_exists", "bad_request"],
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
