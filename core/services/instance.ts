import type { InstanceView } from "../api/instance.ts";
import type { ServiceDeps } from "./deps.ts";

export function describeInstance({ settings }: Pick<ServiceDeps, "settings">): InstanceView {
  return {
    version: settings.version,
    oidc_enabled: settings.oidc !== null,
    oidc_required: settings.oidc?.required ?? false,
    oidc_icon_url: settings.oidc?.iconUrl ?? null,
    registration_enabled: settings.registrationEnabled && !settings.oidc?.required,
    email_verification_enabled: settings.mail?.verificationRequired ?? false,
    smtp_enabled: settings.mail !== null,
    quic: false,
    create_org: settings.createOrganization,
    create_cache: settings.createCache,
  };
}
