import { DomainError } from "../errors.ts";

/**
 * Where a forge is, without slashes at its end; null for none. Who it is asked as stands in the token, never in the
 * address, which members see.
 */
export function requireEndpointUrl(text: string | null | undefined): string | null {
  if (!text) return null;
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !/^https?:$/.test(url.protocol)) {
    throw new DomainError("validation", "endpoint_url: must begin with http:// or https://");
  }
  if (url.username !== "" || url.password !== "") {
    throw new DomainError("validation", "endpoint_url: must not hold a name or password: use access_token");
  }
  if (url.search !== "" || url.hash !== "") throw new DomainError("validation", "endpoint_url: must end with its path");
  return url.href.replace(/\/+$/, "");
}
