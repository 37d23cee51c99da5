import {
  CheckUsernameBody,
  ConfirmPasswordResetBody,
  LoginBody,
  RegisterBody,
  RequestPasswordResetBody,
  ResendVerificationBody,
  VerifyEmailQuery,
} from "../auth.ts";
import {
  AnswerDeviceBody,
  DeviceQuery,
  type DeviceStartView,
  type DeviceView,
  PollDeviceBody,
} from "../auth-device.ts";
import { GetOidcCallbackQuery } from "../auth-oidc.ts";
import { json, REDIRECT, type RouteGroup } from "./route.ts";

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
      errors: [
        "registration_disabled",
        "invalid_username",
        "invalid_name",
        "invalid_email",
        "invalid_password",
        "already_exists",
      ],
    },
    "POST /auth/basic/login": {
      summary: "Sign in with a password",
      description: "The answer is the session's token; a browser also gets it as a cookie.",
      audience: "everybody",
      body: LoginBody,
      answer: json<string>(),
      errors: ["invalid_credentials", "oauth_required", "forbidden"],
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
    "GET /auth/verify-email": {
      summary: "Show that an address is one's own",
      description: "The mail links to it.",
      audience: "everybody",
      query: VerifyEmailQuery,
      answer: json<string>(),
      errors: ["conflict"],
    },
    "POST /auth/resend-verification": {
      summary: "Have the mail sent again that verifies an address",
      audience: "everybody",
      body: ResendVerificationBody,
      answer: json<string>(),
    },
    "POST /auth/password-reset": {
      summary: "Have a mail sent with which a password is set anew",
      audience: "everybody",
      body: RequestPasswordResetBody,
      answer: json<string>(),
      errors: ["oauth_required"],
    },
    "POST /auth/password-reset/confirm": {
      summary: "Set a password anew",
      audience: "everybody",
      body: ConfirmPasswordResetBody,
      answer: json<string>(),
      errors: ["invalid_password", "oauth_required"],
    },
    "POST /auth/logout": { summary: "Sign out", audience: "reader", answer: json<string>() },
  },
} as const satisfies RouteGroup;

const AWAY_ERRORS = ["oauth_disabled", "service_unavailable"] as const;
const BACK_ERRORS = ["oauth_disabled", "unauthorized"] as const;

export const SINGLE_SIGN_ON = {
  tag: "Single sign-on",
  description: "Sessions by an identity provider (OpenID Connect).",
  routes: {
    "GET /auth/oidc/login": {
      summary: "Go to the identity provider",
      audience: "everybody",
      answer: REDIRECT,
      errors: AWAY_ERRORS,
    },
    "GET /auth/oidc/callback": {
      summary: "Come back from the identity provider, in a browser",
      description: "Sets the session's cookie and goes on to the web interface.",
      audience: "everybody",
      query: GetOidcCallbackQuery,
      answer: REDIRECT,
      errors: BACK_ERRORS,
    },
    "POST /auth/oauth/authorize": {
      summary: "Ask for the identity provider's address",
      audience: "everybody",
      answer: json<string>(),
      errors: AWAY_ERRORS,
    },
    "GET /auth/oauth/authorize": {
      summary: "Come back from the identity provider, with a program",
      description: "The answer is the session's token.",
      audience: "everybody",
      query: GetOidcCallbackQuery,
      answer: json<string>(),
      errors: [...BACK_ERRORS, "invalid_oauth_code"],
    },
  },
} as const satisfies RouteGroup;

export const DEVICES = {
  tag: "Devices",
  description: "A command line is let in by somebody who is signed in in a browser.",
  routes: {
    "POST /auth/cli/start": {
      summary: "Ask to be let in",
      audience: "everybody",
      answer: json<DeviceStartView>(),
    },
    "POST /auth/cli/poll": {
      summary: "Ask whether one was let in",
      description: "The answer is the session's token; it is given once.",
      audience: "everybody",
      body: PollDeviceBody,
      answer: json<string>(),
      errors: ["cli_auth_pending", "cli_auth_expired", "cli_auth_denied", "not_found"],
    },
    "GET /auth/cli/info": {
      summary: "Show who asks to be let in",
      audience: "user",
      query: DeviceQuery,
      answer: json<DeviceView>(),
      errors: ["not_found"],
    },
    "POST /auth/cli/authorize": {
      summary: "Let a device in",
      audience: "user",
      body: AnswerDeviceBody,
      answer: json<string>(),
      errors: ["not_found", "conflict"],
    },
    "POST /auth/cli/deny": {
      summary: "Do not let a device in",
      audience: "user",
      body: AnswerDeviceBody,
      answer: json<string>(),
      errors: ["not_found", "conflict"],
    },
  },
} as const satisfies RouteGroup;
