import * as v from "valibot";
import { descriptionText, nameText } from "./text.ts";

export const NameQuery = v.object({ name: nameText }) satisfies v.GenericSchema<unknown, { readonly name: string }>;

export const CreateOrganizationBody = v.object({
  name: nameText,
  display_name: nameText,
  description: v.optional(descriptionText, ""),
  public: v.optional(v.boolean(), false),
  hide_build_requests: v.optional(v.boolean(), false),
}) satisfies v.GenericSchema<unknown, CreateOrganizationBody>;
export interface CreateOrganizationBody {
  readonly name: string;
  readonly display_name: string;
  readonly description: string;
  readonly public: boolean;
  readonly hide_build_requests: boolean;
}

export const ChangeOrganizationBody = v.object({
  name: v.optional(nameText),
  display_name: v.optional(nameText),
  description: v.optional(descriptionText),
  hide_build_requests: v.optional(v.boolean()),
}) satisfies v.GenericSchema<unknown, ChangeOrganizationBody>;
export interface ChangeOrganizationBody {
  readonly name?: string | undefined;
  readonly display_name?: string | undefined;
  readonly description?: string | undefined;
  readonly hide_build_requests?: boolean | undefined;
}

export const MemberBody = v.object({ user: nameText, role: nameText }) satisfies v.GenericSchema<unknown, MemberBody>;
export interface MemberBody {
  /** A user name. */
  readonly user: string;
  /** The name of a role. */
  readonly role: string;
}

export const RemoveMemberBody = v.object({ user: nameText }) satisfies v.GenericSchema<
  unknown,
  { readonly user: string }
>;

export const SubscribeBody = v.object({
  mode: v.optional(
    v.picklist(
      ["ReadWrite", "ReadOnly", "WriteOnly", "read_write", "read_only", "write_only"],
      "must be ReadWrite, ReadOnly or WriteOnly",
    ),
    "ReadWrite",
  ),
}) satisfies v.GenericSchema<unknown, SubscribeBody>;
export interface SubscribeBody {
  /** Both spellings are in use by clients. Answers have the first. */
  readonly mode: "ReadWrite" | "ReadOnly" | "WriteOnly" | "read_write" | "read_only" | "write_only";
}

export interface OrganizationBase {
  readonly id: string;
  readonly name: string;
  readonly display_name: string;
  readonly description: string;
  readonly public_key: string;
  readonly public: boolean;
  readonly hide_build_requests: boolean;
  readonly managed: boolean;
  readonly created_by: string | null;
  readonly created_at: string;
}

export interface OrganizationListItem extends OrganizationBase {
  readonly running_evaluations: number;
  readonly role: string;
}

export interface OrganizationDetail extends OrganizationBase {
  readonly github_app_available: boolean;
  /** The actor's role; null for who is no member. */
  readonly role: string | null;
}

/** A user and the role it has: the field names are those the API has always had. */
export interface MemberView {
  /** The user name. */
  readonly id: string;
  /** The role's name. */
  readonly name: string;
}

export interface SubscriptionView {
  /** The cache's. */
  readonly id: string;
  readonly name: string;
  readonly mode: "ReadWrite" | "ReadOnly" | "WriteOnly";
}

/** `GET /orgs/{org}/forge-webhook-secret`. */
export interface WebhookSecretStateView {
  readonly has_secret: boolean;
  readonly webhook_url: string;
  readonly webhook_urls: WebhookUrls;
}

/** `POST /orgs/{org}/forge-webhook-secret`. */
export interface WebhookSecretView {
  /** Shown this once. */
  readonly secret: string;
  /** As Gitea and Forgejo take it. */
  readonly webhook_url: string;
  readonly webhook_urls: WebhookUrls;
}

export interface WebhookUrls {
  readonly gitea: string;
  readonly forgejo: string;
  readonly gitlab: string;
  readonly github: string;
}
