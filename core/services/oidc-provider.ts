import {
  type AuthorizationServer,
  allowInsecureRequests,
  authorizationCodeGrantRequest,
  type Client,
  type ClientAuth,
  ClientSecretBasic,
  ClientSecretPost,
  calculatePKCECodeChallenge,
  customFetch,
  discoveryRequest,
  getValidatedIdTokenClaims,
  type JsonObject,
  processAuthorizationCodeResponse,
  processDiscoveryResponse,
  processUserInfoResponse,
  userInfoRequest,
  validateApplicationLevelSignature,
  validateAuthResponse,
} from "oauth4webapi";
import { isSparse, type OidcProfile, profileOf, withUserInfo } from "../domain/oidc-claims.ts";
import { MINUTE } from "../lib/clock.ts";
import type { OidcAttempt } from "./oidc-attempt.ts";
import { type OidcHttpDeps, oidcFetch } from "./oidc-http.ts";

export interface OidcProviderSettings {
  /** The issuer's address, or that of its discovery document. An `http:` one lets the provider use no TLS either. */
  readonly discoveryUrl: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** With spaces between them. */
  readonly scopes: string;
  /** Where the provider sends browsers back to. */
  readonly redirectUri: string;
}

/** What the provider says of itself cannot be used. The message is for the operator. */
export class OidcMetadataError extends Error {
  override readonly name = "OidcMetadataError";
}

const WELL_KNOWN = "/.well-known/openid-configuration";
/** The provider's keys are asked for anew within that time, too. */
const METADATA_MS_MAX: number = 10 * MINUTE;

/**
 * The identity provider that the operator named. What it says of itself is asked for when somebody signs in, and
 * believed for 10 minutes. Every method throws what goes wrong as it is: `describeOidcFailure` has words for it.
 */
export class OidcProvider {
  readonly #deps: OidcHttpDeps;
  readonly #settings: OidcProviderSettings;
  readonly #client: Client;
  readonly #http: {
    readonly [customFetch]: ReturnType<typeof oidcFetch>;
    readonly [allowInsecureRequests]: boolean;
  };
  #known: { readonly server: AuthorizationServer; readonly atMs: number } | null = null;
  #asking: Promise<AuthorizationServer> | null = null;

  constructor(deps: OidcHttpDeps, settings: OidcProviderSettings) {
    this.#deps = deps;
    this.#settings = settings;
    this.#client = { client_id: settings.clientId };
    this.#http = {
      [customFetch]: oidcFetch(deps),
      [allowInsecureRequests]: settings.discoveryUrl.startsWith("http:"),
    };
  }

  /** Where a browser goes to sign in. */
  async authorizationUrl({ state, nonce, verifier }: OidcAttempt): Promise<string> {
    const { clientId, scopes, redirectUri } = this.#settings;
    const url = this.#pageOf(await this.#server());
    const parameters = {
      client_id: clientId,
      redirect_uri: redirectUri,
      response_type: "code",
      scope: scopes,
      state,
      nonce,
      code_challenge: await calculatePKCECodeChallenge(verifier),
      code_challenge_method: "S256",
    };
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    return url.href;
  }

  /** Who came back with these parameters of the redirect address, proved for this attempt. */
  async identify(parameters: URLSearchParams, { state, nonce, verifier }: OidcAttempt): Promise<OidcProfile> {
    const server = await this.#server();
    const valid = validateAuthResponse(server, this.#client, parameters, state);
    const { redirectUri } = this.#settings;
    const response = await authorizationCodeGrantRequest(
      server,
      this.#client,
      this.#authentication(server),
      valid,
      redirectUri,
      verifier,
      this.#http,
    );
    const options = { expectedNonce: nonce, requireIdToken: true };
    const tokens = await processAuthorizationCodeResponse(server, this.#client, response, options);
    // The specification lets the signature go unchecked where TLS did the same. It is checked all the same.
    await validateApplicationLevelSignature(server, response, this.#http);
    const claims = getValidatedIdTokenClaims(tokens);
    if (!claims) throw new OidcMetadataError("the provider's answer holds no ID token");
    if (!isSparse(claims)) return profileOf(claims);
    return profileOf(withUserInfo(claims, await this.#userInfo(server, tokens.access_token, claims.sub)));
  }

  /** Many providers put what they know of a person here only. */
  async #userInfo(server: AuthorizationServer, accessToken: string, subject: string): Promise<JsonObject> {
    if (server.userinfo_endpoint === undefined) return {};
    const response = await userInfoRequest(server, this.#client, accessToken, this.#http);
    return { ...(await processUserInfoResponse(server, this.#client, subject, response)) };
  }

  async #server(): Promise<AuthorizationServer> {
    const now = this.#deps.clock.monotonic();
    if (this.#known && now - this.#known.atMs < METADATA_MS_MAX) return this.#known.server;
    this.#asking ??= this.#discover().finally(() => {
      this.#asking = null;
    });
    return await this.#asking;
  }

  async #discover(): Promise<AuthorizationServer> {
    const issuer = issuerOf(this.#settings.discoveryUrl);
    const response = await discoveryRequest(issuer, this.#http);
    if (response.status !== 200) {
      throw new OidcMetadataError(`${issuer.href}${WELL_KNOWN.slice(1)} was answered with status ${response.status}`);
    }
    const named = await issuerNamedIn(response.clone());
    if (named === null || withoutSlash(named.href) !== withoutSlash(issuer.href)) {
      const says = named ? `calls itself ${named.href}` : "does not name itself";
      throw new OidcMetadataError(`the provider ${says}, but GRADIENT_OIDC_DISCOVERY_URL says ${issuer.href}`);
    }
    const server = await processDiscoveryResponse(named, response);
    this.#pageOf(server);
    this.#known = { server, atMs: this.#deps.clock.monotonic() };
    return server;
  }

  /** Browsers are sent there: to nothing but a web page. */
  #pageOf({ authorization_endpoint: text }: AuthorizationServer): URL {
    const url = text !== undefined && URL.canParse(text) ? new URL(text) : null;
    const protocols = this.#http[allowInsecureRequests] ? /^https?:$/ : /^https:$/;
    if (url && protocols.test(url.protocol)) return url;
    throw new OidcMetadataError("the provider's authorization_endpoint is no address that begins with https://");
  }

  /** The secret in the form, as the original sends it, unless the provider takes it in the header only. */
  #authentication({ token_endpoint_auth_methods_supported: methods }: AuthorizationServer): ClientAuth {
    const { clientSecret } = this.#settings;
    const headerOnly = methods?.includes("client_secret_basic") && !methods.includes("client_secret_post");
    return headerOnly ? ClientSecretBasic(clientSecret) : ClientSecretPost(clientSecret);
  }
}

function issuerOf(discoveryUrl: string): URL {
  const url = new URL(discoveryUrl);
  if (url.pathname.endsWith(WELL_KNOWN)) url.pathname = url.pathname.slice(0, -WELL_KNOWN.length);
  return url;
}

async function issuerNamedIn(response: Response): Promise<URL | null> {
  const document: unknown = await response.json();
  if (typeof document !== "object" || document === null || !("issuer" in document)) return null;
  const { issuer } = document;
  return typeof issuer === "string" && URL.canParse(issuer) ? new URL(issuer) : null;
}

/** Some people write it at the end of an address, and some do not. */
function withoutSlash(text: string): string {
  return text.replace(/\/+$/, "");
}
