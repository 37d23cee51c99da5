import { CheckUsernameBody, LoginBody, RegisterBody } from "../auth.ts";
import { json, type RouteGroup } from "./route.ts";

export const AUTH = {
  tag: "Authentication",
  description: "Accounts and sessions.",
  routes: {
    "POST /auth/basic/register": {
      summary: "Register an account",
      description: "The answer holds the new user's id.",
      audience: "everybody",
      body: RegisterBody,
      answer: json<string>(),
      errors: ["registration_disabled", "invalid_username", "invalid_email", "invalid_password", "already_exists"],
    },
    "POST /auth/basic/login": {
      summary: "Sign in with a password",
      description: "The answer is the session's token; a browser also gets it as a cookie.",
      audience: "everybody",
      body: LoginBody,
      answer: json<string>(),
      errors: ["invalid_credentials", "forbidden"],
    },
    "POST /auth/check-username": {
      summary: "Ask whether a username is free",
      description: "The status is 200 in either case; where it is not free, the envelope is that of the failure.",
      audience: "everybody",
      body: CheckUsernameBody,
      answer: json<string>(),
      verdict: true,
      errors: ["invalid_username", "already_exists"],
    },
    "POST /auth/logout": { summary: "Sign out", audience: "reader", answer: json<string>() },
  },
} as const satisfies RouteGroup;
