import { AuthorizationResponseError, ResponseBodyError } from "oauth4webapi";
import { OidcClaimsError } from "../domain/oidc-claims.ts";
import { OutboundError } from "../ports/outbound.ts";
import { OidcMetadataError } from "./oidc-provider.ts";

/** Somebody is who they said they are at the provider, and still does not come in. The message is for the operator. */
export class OidcRefusedError extends Error {
  override readonly name = "OidcRefusedError";
}

const DESCRIPTION_MAX_LENGTH = 300;

/** Why a sign-in failed, in one line for the log and the audit log. No token, code or secret is in it. */
export function describeOidcFailure(error: unknown): string {
  if (error instanceof AuthorizationResponseError) return `the provider says ${oauthWords(error)}`;
  if (error instanceof ResponseBodyError) return `the provider refuses the code: ${oauthWords(error)}`;
  if (error instanceof OidcRefusedError || error instanceof OidcClaimsError) return error.message;
  if (error instanceof OidcMetadataError) return error.message;
  if (error instanceof OutboundError)
    return error.failure === "aborted" ? "the provider takes too long" : error.message;
  if (isOfLibrary(error)) return `the provider's answer cannot be believed: ${error.message}${claimOf(error)}`;
  // Messages of other errors may quote what came.
  return `the provider's answer cannot be used: ${error instanceof Error ? error.name : "unknown"}`;
}

/** The errors of oauth4webapi. */
function isOfLibrary(error: unknown): error is Error {
  return error instanceof Error && "code" in error && /^(?:OAUTH_|ERR_INVALID_ARG_)/.test(String(error.code));
}

function oauthWords({ error, error_description }: AuthorizationResponseError | ResponseBodyError): string {
  const words = error_description ? `${error} (${error_description})` : error;
  // Both come from outside.
  return words.replace(/[^\x20-\x7e]+/g, " ").slice(0, DESCRIPTION_MAX_LENGTH);
}

/** Which claim it was about. */
function claimOf({ cause }: Error): string {
  const claim = typeof cause === "object" && cause !== null && "claim" in cause ? cause.claim : null;
  return typeof claim === "string" ? ` [${claim.slice(0, 50)}]` : "";
}
