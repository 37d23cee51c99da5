import { DomainError } from "../errors.ts";
import type { ServiceDeps } from "./deps.ts";

/** Throws `oauth_required` where everybody signs in at the identity provider: a password would open nothing. */
export function requirePasswords({ settings }: Pick<ServiceDeps, "settings">): void {
  if (!settings.oidc?.required) return;
  throw new DomainError("oauth_required", "Sign in at this server's identity provider: passwords are turned off here");
}
