import * as v from "valibot";
import { nameText, secretText } from "./text.ts";

export const RegisterBody: v.GenericSchema<unknown, RegisterBody> = v.object({
  username: nameText,
  name: nameText,
  email: nameText,
  password: secretText,
});
export interface RegisterBody {
  readonly username: string;
  readonly name: string;
  readonly email: string;
  readonly password: string;
}

export const LoginBody: v.GenericSchema<unknown, LoginBody> = v.object({
  loginname: nameText,
  password: secretText,
  remember_me: v.optional(v.boolean(), false),
});
export interface LoginBody {
  /** The user name or the e-mail address. */
  readonly loginname: string;
  readonly password: string;
  readonly remember_me: boolean;
}

export const CheckUsernameBody: v.GenericSchema<unknown, { readonly username: string }> = v.object({
  username: nameText,
});

/** `GET /user`. */
export interface UserView {
  readonly id: string;
  readonly username: string;
  readonly name: string;
  readonly email: string;
  readonly superuser: boolean;
}
