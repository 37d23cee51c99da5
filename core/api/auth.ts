import * as v from "valibot";
import { nameText, secretText } from "./text.ts";

/** `POST /auth/basic/register`. */
export const RegisterBody = v.object({
  username: nameText,
  name: nameText,
  email: nameText,
  password: secretText,
}) satisfies v.GenericSchema<unknown, RegisterBody>;
export interface RegisterBody {
  readonly username: string;
  readonly name: string;
  readonly email: string;
  readonly password: string;
}

/** `POST /auth/basic/login`. */
export const LoginBody = v.object({
  loginname: nameText,
  password: secretText,
  remember_me: v.optional(v.boolean(), false),
}) satisfies v.GenericSchema<unknown, LoginBody>;
export interface LoginBody {
  /** The user name or the e-mail address. */
  readonly loginname: string;
  readonly password: string;
  readonly remember_me: boolean;
}

/** `POST /auth/check-username`. */
export const CheckUsernameBody = v.object({ username: nameText }) satisfies v.GenericSchema<unknown, CheckUsernameBody>;
export interface CheckUsernameBody {
  readonly username: string;
}

/** `GET /auth/verify-email`. */
export const VerifyEmailQuery = v.object({ token: secretText }) satisfies v.GenericSchema<unknown, VerifyEmailQuery>;
export interface VerifyEmailQuery {
  readonly token: string;
}

/** `POST /auth/resend-verification`. */
export const ResendVerificationBody = v.object({
  username: nameText,
}) satisfies v.GenericSchema<unknown, ResendVerificationBody>;
export interface ResendVerificationBody {
  /** The user name or the e-mail address. */
  readonly username: string;
}

/** `POST /auth/password-reset`. */
export const RequestPasswordResetBody = v.object({
  loginname: nameText,
}) satisfies v.GenericSchema<unknown, RequestPasswordResetBody>;
export interface RequestPasswordResetBody {
  /** The user name or the e-mail address. */
  readonly loginname: string;
}

/** `POST /auth/password-reset/confirm`. */
export const ConfirmPasswordResetBody = v.object({
  token: secretText,
  password: secretText,
}) satisfies v.GenericSchema<unknown, ConfirmPasswordResetBody>;
export interface ConfirmPasswordResetBody {
  /** From the link in the mail. */
  readonly token: string;
  readonly password: string;
}

/** `GET /user`. */
export interface UserView {
  readonly id: string;
  readonly username: string;
  readonly name: string;
  readonly email: string;
  readonly superuser: boolean;
}
