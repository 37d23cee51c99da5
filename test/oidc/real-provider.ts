import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair } from "jose";

/** The little of the package `oidc-provider` that is used here; it brings no types. */
interface Package {
  readonly default: new (issuer: string, configuration: object) => Provider;
}
interface Provider {
  readonly Grant: new (of: { clientId: string; accountId: string }) => Grant;
  callback(): (request: IncomingMessage, response: ServerResponse) => void;
  interactionFinished(request: IncomingMessage, response: ServerResponse, result: object): Promise<void>;
}
interface Grant {
  addOIDCScope(scopes: string): void;
  save(): Promise<string>;
}
interface Context {
  readonly oidc: {
    readonly provider: Provider;
    readonly client: { readonly clientId: string };
    readonly session: { readonly accountId: string };
  };
}

const PACKAGE: string = "oidc-provider";
const SCOPES = "openid email profile groups";

export interface RealProviderOptions {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly redirectUri: string;
  /** What it knows of each person, by their subject. */
  readonly people: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

export interface RealProvider extends AsyncDisposable {
  readonly url: string;
  /** A browser that goes there, where this person signs in: the address it is sent back to. */
  visit(authorizationUrl: string, subject: string): Promise<URL>;
}

/** `oidc-provider`, certified by the OpenID Foundation: whoever visits signs in without being asked. */
export async function startRealProvider(options: RealProviderOptions): Promise<RealProvider> {
  let handle: (request: IncomingMessage, response: ServerResponse) => void = (_, response) => void response.end();
  const server = createServer((request, response) => handle(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const { default: ProviderClass } = (await import(PACKAGE)) as Package;
  const provider = new ProviderClass(url, await configurationOf(options));
  const answer = provider.callback();
  handle = (request, response) => {
    const accountId = /^\/sign-in\/[^?]*\?as=(.+)$/.exec(request.url ?? "")?.[1];
    if (accountId === undefined) return answer(request, response);
    void provider.interactionFinished(request, response, { login: { accountId: decodeURIComponent(accountId) } });
  };
  return {
    url,
    visit: async (authorizationUrl, subject) => await walk(authorizationUrl, subject, options.redirectUri),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function configurationOf({ clientId, clientSecret, redirectUri, people }: RealProviderOptions): Promise<object> {
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  const client = { client_id: clientId, client_secret: clientSecret, redirect_uris: [redirectUri] };
  return {
    clients: [{ ...client, token_endpoint_auth_method: "client_secret_post" }],
    jwks: { keys: [{ ...(await exportJWK(privateKey)), alg: "RS256", use: "sig", kid: "real" }] },
    cookies: { keys: ["a key for the cookies of this test"] },
    claims: {
      openid: ["sub"],
      email: ["email", "email_verified"],
      profile: ["name", "preferred_username"],
      groups: ["groups"],
    },
    pkce: { required: () => true },
    features: { devInteractions: { enabled: false } },
    ttl: { AccessToken: 300, AuthorizationCode: 60, IdToken: 300, Interaction: 300, Session: 300, Grant: 300 },
    interactions: { url: (_: unknown, { uid }: { uid: string }) => `/sign-in/${uid}` },
    findAccount: (_: unknown, accountId: string) =>
      people[accountId] && { accountId, claims: () => ({ sub: accountId, ...people[accountId] }) },
    // Everybody has agreed to everything before.
    loadExistingGrant: async ({ oidc: { provider, client, session } }: Context) => {
      const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope(SCOPES);
      await grant.save();
      return grant;
    },
  };
}

const REDIRECTS_MAX = 10;

/** As a browser does it, with cookies, up to the address that is not the provider's. */
async function walk(start: string, subject: string, redirectUri: string): Promise<URL> {
  const cookies = new Map<string, string>();
  let url = new URL(start);
  for (let i = 0; i < REDIRECTS_MAX; i++) {
    if (url.href.startsWith(redirectUri)) return url;
    if (url.pathname.startsWith("/sign-in/")) url.searchParams.set("as", subject);
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(url, { redirect: "manual", headers: { cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      if (name) cookies.set(name, value ?? "");
    }
    const location = response.headers.get("location");
    if (location === null) throw new Error(`${response.status} at ${url.pathname}: ${await response.text()}`);
    url = new URL(location, url);
  }
  throw new Error("the provider redirects without end");
}
