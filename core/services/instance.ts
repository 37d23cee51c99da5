import type { InstanceView } from "../api/instance.ts";
import type { ServiceDeps } from "./deps.ts";

export function describeInstance({ settings }: Pick<ServiceDeps, "settings">): InstanceView {
  return {
    version: settings.version,
    oidc_enabled: false,
    oidc_required: false,
    registration_enabled: settings.registrationEnabled,
    email_verification_enabled: false,
    smtp_enabled: false,
    quic: false,
    create_org: settings.createOrganization,
    create_cache: settings.createCache,
  };
}
