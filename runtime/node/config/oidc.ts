import { fromUtf8Lossy } from "#core/lib/bytes.ts";
import type { EnvironmentReader } from "./reader.ts";

export interface OidcConfig {
  readonly required: boolean;
  /** The issuer's address, or that of its discovery document. */
  readonly discoveryUrl: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** With spaces between them; `openid` is one. */
  readonly scopes: string;
  readonly iconUrl: string | null;
}

const NAMES = ["GRADIENT_OIDC_DISCOVERY_URL", "GRADIENT_OIDC_CLIENT_ID", "GRADIENT_OIDC_CLIENT_SECRET_FILE"] as const;
const ICON_URL_MAX_LENGTH = 2_000;
/** RFC 6749 section 3.3. */
const SCOPE = /^[\x21\x23-\x5b\x5d-\x7e]+$/;

/** Null when it is off; what else is set has no effect then. What is missing or contradicts itself is a problem. */
export function readOidcConfig(reader: EnvironmentReader): OidcConfig | null {
  const required = reader.boolean("GRADIENT_OIDC_REQUIRED", false);
  if (!reader.boolean("GRADIENT_OIDC_ENABLED", false)) {
    if (required) reader.problems.push("GRADIENT_OIDC_REQUIRED=true: needs GRADIENT_OIDC_ENABLED=true");
    return null;
  }
  for (const name of NAMES) {
    if (reader.text(name) === null) reader.problems.push(`${name}: is required with GRADIENT_OIDC_ENABLED=true`);
  }
  return {
    required,
    discoveryUrl: readDiscoveryUrl(reader),
    clientId: reader.text("GRADIENT_OIDC_CLIENT_ID") ?? "",
    clientSecret: readClientSecret(reader),
    scopes: readScopes(reader),
    iconUrl: readIconUrl(reader),
  };
}

function readDiscoveryUrl(reader: EnvironmentReader): string {
  const name = "GRADIENT_OIDC_DISCOVERY_URL";
  const text = reader.text(name) ?? "";
  const url = URL.canParse(text) ? new URL(text) : null;
  if (text === "") return "";
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.hash) {
    reader.problems.push(`${name}: must be an address such as https://auth.example.com`);
  } else if (url.protocol === "http:" && !isLoopback(url.hostname)) {
    const why = "whoever stands between could sign in as anybody";
    reader.problems.push(`${name}: must begin with https://, or lead to this machine itself: ${why}`);
  }
  return text;
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d+){3}$/.test(hostname);
}

function readClientSecret(reader: EnvironmentReader): string {
  const name = "GRADIENT_OIDC_CLIENT_SECRET_FILE";
  const contents = reader.file(name);
  const secret = contents ? fromUtf8Lossy(contents).trim() : "";
  if (contents && secret === "") reader.problems.push(`${name}: the file is empty: put the client's secret into it`);
  return secret;
}

function readScopes(reader: EnvironmentReader): string {
  const name = "GRADIENT_OIDC_SCOPES";
  const scopes = (reader.text(name) ?? "openid email profile").split(/\s+/);
  if (!scopes.every((scope) => SCOPE.test(scope))) {
    reader.problems.push(`${name}: must be names with spaces between them, such as openid email profile`);
  } else if (!scopes.includes("openid")) {
    reader.problems.push(`${name}: openid must be among them: without it the provider does not say who signs in`);
  }
  return [...new Set(scopes)].join(" ");
}

function readIconUrl(reader: EnvironmentReader): string | null {
  const name = "GRADIENT_OIDC_ICON_URL";
  const text = reader.text(name);
  if (text === null || (isIconUrl(text) && text.length <= ICON_URL_MAX_LENGTH)) return text;
  reader.problems.push(`${name}: must be like https://auth.example.com/logo.svg, or a path such as /logo.svg`);
  return null;
}

function isIconUrl(text: string): boolean {
  if (/^\/(?![/\\])\S*$/.test(text)) return true;
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}
