import { systemClock } from "#core/lib/clock.ts";
import { OIDC_CALLBACK_PATH } from "#core/services/oidc.ts";
import { OidcProvider } from "#core/services/oidc-provider.ts";
import type { Config } from "./config.ts";
import { createOutbound } from "./outbound.ts";

export interface RunningOidc {
  readonly provider: OidcProvider | null;
  /** Lets go of connections that wait. */
  close(): void;
}

/**
 * The identity provider of the configuration. Its own host may have any address: the operator wrote it down, and many
 * providers stand on the machine itself, whose full name NixOS resolves to a loopback address.
 */
export function openOidc({ oidc, outbound: rules, serveUrl }: Config): RunningOidc {
  if (!oidc) return { provider: null, close: () => {} };
  const outbound = createOutbound(rules, { ownHost: new URL(oidc.discoveryUrl).hostname });
  const settings = { ...oidc, redirectUri: `${serveUrl}${OIDC_CALLBACK_PATH}` };
  return { provider: new OidcProvider({ clock: systemClock, outbound }, settings), close: () => outbound.close() };
}
