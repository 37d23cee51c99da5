import * as v from "valibot";
import { text } from "./text.ts";

/** What an identity provider appends to the callback's address: RFC 6749 section 4.1.2, RFC 9207. */
export const GetOidcCallbackQuery = v.object({
  code: v.optional(text(4_096)),
  state: v.optional(text(4_096)),
  error: v.optional(text(1_000)),
  error_description: v.optional(text(4_096)),
  iss: v.optional(text(1_000)),
}) satisfies v.GenericSchema<unknown, GetOidcCallbackQuery>;
export interface GetOidcCallbackQuery {
  readonly code?: string | undefined;
  readonly state?: string | undefined;
  readonly error?: string | undefined;
  readonly error_description?: string | undefined;
  readonly iss?: string | undefined;
}
