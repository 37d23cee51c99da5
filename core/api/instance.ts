/** `GET /config`. */
export interface InstanceView {
  readonly version: string;
  readonly oidc_enabled: boolean;
  readonly oidc_required: boolean;
  /** The provider's logo; null when the operator names none. */
  readonly oidc_icon_url: string | null;
  readonly registration_enabled: boolean;
  readonly email_verification_enabled: boolean;
  readonly smtp_enabled: boolean;
  readonly quic: boolean;
  readonly create_org: "none" | "superusers" | "everyone";
  readonly create_cache: "none" | "superusers" | "everyone";
}
