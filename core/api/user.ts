import * as v from "valibot";
import { nameText, secretText } from "./text.ts";

/** `DELETE /user`: the password, or the user name where the account has none. */
export const DeleteUserBody = v.object({
  password: v.optional(secretText),
  confirm_username: v.optional(nameText),
}) satisfies v.GenericSchema<unknown, DeleteUserBody>;
export interface DeleteUserBody {
  readonly password?: string | undefined;
  readonly confirm_username?: string | undefined;
}

/** `PATCH /user/settings`. */
export const ChangeSettingsBody = v.object({
  username: v.optional(nameText),
  name: v.optional(nameText),
  email: v.optional(nameText),
  current_password: v.optional(secretText),
}) satisfies v.GenericSchema<unknown, ChangeSettingsBody>;
export interface ChangeSettingsBody {
  readonly username?: string | undefined;
  readonly name?: string | undefined;
  readonly email?: string | undefined;
  /** Needed with a new address where the server sends mails. */
  readonly current_password?: string | undefined;
}

/** `POST /user/password`. */
export const ChangePasswordBody = v.object({
  current_password: secretText,
  new_password: secretText,
}) satisfies v.GenericSchema<unknown, ChangePasswordBody>;
export interface ChangePasswordBody {
  readonly current_password: string;
  readonly new_password: string;
}

/** `GET /user/search`. */
export const SearchUsersQuery = v.object({ q: v.optional(nameText, "") }) satisfies v.GenericSchema<
  unknown,
  SearchUsersQuery
>;
export interface SearchUsersQuery {
  /** Part of a user name or a name, in any case. */
  readonly q: string;
}

/** `GET /user/search`. */
export interface FoundUserView {
  readonly id: string;
  readonly username: string;
  readonly name: string;
}

/** `GET /user/settings`. */
export interface SettingsView {
  readonly username: string;
  readonly name: string;
  readonly email: string;
  /** Whether the address was shown to be the user's. */
  readonly email_verified: boolean;
  /** The account has no password here. */
  readonly is_oidc: boolean;
  readonly managed: boolean;
}

/** `GET /user/sessions`. */
export interface SessionView {
  readonly id: string;
  readonly user_agent: string | null;
  readonly ip: string | null;
  readonly created_at: string;
  readonly last_used_at: string;
  readonly expires_at: string;
  readonly remember_me: boolean;
  /** The one that asks. */
  readonly current: boolean;
}
