import * as v from "valibot";
import { nameText, secretText, text, wholeNumber } from "./text.ts";

const ALLOWED_IPS_MAX = 64;
const URL_MAX_LENGTH = 2_000;

const kind = v.picklist(["inbound", "outbound"], "must be inbound or outbound");
const forgeType = v.picklist(["gitea", "forgejo", "gitlab", "github"], "must be gitea, forgejo, gitlab or github");
const allowedIps = v.pipe(
  v.array(text(64)),
  v.maxLength(ALLOWED_IPS_MAX, `has more than the ${ALLOWED_IPS_MAX} entries that are allowed`),
);

export const CreateIntegrationBody = v.object({
  name: nameText,
  kind,
  forge_type: forgeType,
  display_name: v.nullish(nameText),
  endpoint_url: v.nullish(text(URL_MAX_LENGTH)),
  secret: v.nullish(secretText),
  access_token: v.nullish(secretText),
  allowed_ips: v.nullish(allowedIps),
  installation_id: v.nullish(wholeNumber(1, Number.MAX_SAFE_INTEGER)),
}) satisfies v.GenericSchema<unknown, CreateIntegrationBody>;
export interface CreateIntegrationBody {
  readonly name: string;
  /** Whether the forge calls the server, or the server the forge. */
  readonly kind: IntegrationKindText;
  readonly forge_type: ForgeTypeText;
  /** The name where none is given. */
  readonly display_name?: string | null | undefined;
  readonly endpoint_url?: string | null | undefined;
  /** What the forge signs with. */
  readonly secret?: string | null | undefined;
  /** What the server shows the forge. */
  readonly access_token?: string | null | undefined;
  /** Where the forge calls from; none lets every address in. */
  readonly allowed_ips?: readonly string[] | null | undefined;
  /** Of a GitHub App. */
  readonly installation_id?: number | null | undefined;
}

export const ChangeIntegrationBody = v.object({
  name: v.optional(nameText),
  display_name: v.optional(nameText),
  forge_type: v.optional(forgeType),
  endpoint_url: v.nullish(text(URL_MAX_LENGTH)),
  secret: v.nullish(secretText),
  access_token: v.nullish(secretText),
  allowed_ips: v.optional(allowedIps),
}) satisfies v.GenericSchema<unknown, ChangeIntegrationBody>;
export interface ChangeIntegrationBody {
  readonly name?: string | undefined;
  readonly display_name?: string | undefined;
  readonly forge_type?: ForgeTypeText | undefined;
  /** Null or an empty text takes it away; so it is with the next two. */
  readonly endpoint_url?: string | null | undefined;
  readonly secret?: string | null | undefined;
  readonly access_token?: string | null | undefined;
  readonly allowed_ips?: readonly string[] | undefined;
}

export type IntegrationKindText = "inbound" | "outbound";
export type ForgeTypeText = "gitea" | "forgejo" | "gitlab" | "github";

/** For every member: enough to choose one. */
export interface IntegrationSummaryView {
  readonly id: string;
  readonly name: string;
  readonly display_name: string;
  readonly kind: IntegrationKindText;
  readonly forge_type: ForgeTypeText;
}

/** Secrets are never shown, only whether there are any. */
export interface IntegrationView extends IntegrationSummaryView {
  /** The organization's id. */
  readonly organization: string;
  readonly endpoint_url: string | null;
  readonly has_secret: boolean;
  readonly has_access_token: boolean;
  readonly allowed_ips: readonly string[];
  readonly installation_id: number | null;
  readonly account_login: string | null;
  readonly managed: boolean;
  readonly created_by: string | null;
  readonly created_at: string;
}
