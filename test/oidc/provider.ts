import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";

export const CLIENT = { id: "gradient", secret: "a client's secret: 100% & more" };

export type Claims = Record<string, unknown>;

/** What a test may make the provider do otherwise. */
export interface Misdeeds {
  /** Claims in the place of those that are right; undefined leaves one out. */
  claims?: Claims;
  /** In the place of the signed token. */
  idToken?: (claims: Claims) => Promise<string> | string;
  /** Fields of the discovery document in the place of those that are right. */
  metadata?: Claims;
  /** Answers requests to paths that begin so; what it does not end never ends. */
  answer?: { readonly path: string; readonly by: (response: ServerResponse) => void };
}

export interface TestProvider extends AsyncDisposable {
  readonly url: string;
  readonly misdeeds: Misdeeds;
  /** Paths that were asked for, in order. */
  readonly asked: string[];
  readonly keys: { readonly good: SigningKey; readonly unknown: SigningKey };
  /** Somebody signs in and agrees: where the browser is sent back to. `userInfo` is told only at its own endpoint. */
  agree(authorizationUrl: string, claims: Claims, userInfo?: Claims): URL;
  sign(claims: Claims, key?: SigningKey): Promise<string>;
}

export interface SigningKey {
  readonly alg: string;
  readonly kid: string;
  readonly privateKey: CryptoKey;
  readonly jwk: JWK;
}

interface Grant {
  readonly query: URLSearchParams;
  readonly claims: Claims;
  readonly userInfo: Claims | null;
  used: boolean;
}

/**
 * An OpenID provider over HTTP that really signs and checks what a provider checks (client, redirect address, PKCE,
 * codes for one use), and does wrong where a test asks for it.
 */
export async function startProvider(alg: "RS256" | "ES256" = "RS256"): Promise<TestProvider> {
  const keys = { good: await makeKey(alg, "first"), unknown: await makeKey(alg, "second") };
  const provider = new LocalProvider(keys);
  await provider.listen();
  return provider;
}

class LocalProvider implements TestProvider {
  url = "";
  readonly misdeeds: Misdeeds = {};
  readonly asked: string[] = [];
  readonly keys: TestProvider["keys"];
  readonly #grants = new Map<string, Grant>();
  readonly #tokens = new Map<string, Grant>();
  readonly #server = createServer((request, response) => {
    this.#answer(request, response).catch((error: unknown) => response.destroy(error as Error));
  });

  constructor(keys: TestProvider["keys"]) {
    this.keys = keys;
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async sign(claims: Claims, { alg, kid, privateKey }: SigningKey = this.keys.good): Promise<string> {
    return await new SignJWT(claims).setProtectedHeader({ alg, kid, typ: "JWT" }).sign(privateKey);
  }

  agree(authorizationUrl: string, claims: Claims, userInfo?: Claims): URL {
    const { pathname, searchParams: query } = new URL(authorizationUrl);
    const wanted = { client_id: CLIENT.id, response_type: "code", code_challenge_method: "S256" };
    for (const [name, value] of Object.entries(wanted)) {
      if (query.get(name) !== value) throw new Error(`the request's ${name} is ${query.get(name)}`);
    }
    const scopes = query.get("scope")?.split(" ");
    if (pathname !== "/authorize" || !scopes?.includes("openid")) throw new Error("no request for a sign-in");
    const code = randomBytes(16).toString("hex");
    this.#grants.set(code, { query, claims, userInfo: userInfo ?? null, used: false });
    const back = new URL(query.get("redirect_uri") as string);
    back.searchParams.set("code", code);
    back.searchParams.set("state", query.get("state") as string);
    return back;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? "/", this.url).pathname;
    this.asked.push(path);
    const { answer } = this.misdeeds;
    if (answer && path.startsWith(answer.path)) return answer.by(response);
    const [status, body] = await this.#bodyFor(path, request);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  }

  async #bodyFor(path: string, request: IncomingMessage): Promise<[number, unknown]> {
    const { good } = this.keys;
    switch (path) {
      case "/.well-known/openid-configuration":
        return [200, { ...metadataOf(this.url, good.alg), ...this.misdeeds.metadata }];
      case "/keys":
        return [200, { keys: [good.jwk] }];
      case "/userinfo": {
        const grant = this.#tokens.get(request.headers.authorization?.replace("Bearer ", "") ?? "");
        return grant ? [200, { sub: grant.claims.sub, ...grant.userInfo }] : [401, { error: "invalid_token" }];
      }
      case "/token":
        return await this.#redeem(request);
      default:
        return [404, { error: "not_found" }];
    }
  }

  async #redeem(request: IncomingMessage): Promise<[number, unknown]> {
    const form = new URLSearchParams(await text(request));
    const { id, secret, way } = credentialsOf(request, form);
    if (id !== CLIENT.id || secret !== CLIENT.secret) return [401, { error: "invalid_client" }];
    this.asked.push(way);
    const grant = this.#grants.get(form.get("code") ?? "");
    const verifier = form.get("code_verifier") ?? "";
    const challenge = createHash("sha256").update(verifier).digest("base64url");
    const good = grant && !grant.used && form.get("redirect_uri") === grant.query.get("redirect_uri");
    if (!good || challenge !== grant.query.get("code_challenge")) return [400, { error: "invalid_grant" }];
    grant.used = true;
    return [200, await this.#tokensFor(grant)];
  }

  async #tokensFor(grant: Grant): Promise<Claims> {
    const { misdeeds, url: iss } = this;
    const seconds = Math.floor(Date.now() / 1_000);
    const right = { iss, aud: CLIENT.id, iat: seconds, exp: seconds + 300, nonce: grant.query.get("nonce") };
    const claims = { ...right, ...grant.claims, ...misdeeds.claims };
    const access_token = randomBytes(16).toString("hex");
    this.#tokens.set(access_token, grant);
    const id_token = misdeeds.idToken ? await misdeeds.idToken(claims) : await this.sign(claims);
    return { access_token, token_type: "Bearer", expires_in: 300, id_token };
  }
}

function credentialsOf({ headers }: IncomingMessage, form: URLSearchParams) {
  const basic = headers.authorization?.match(/^Basic (.+)$/)?.[1];
  if (basic === undefined) return { id: form.get("client_id"), secret: form.get("client_secret"), way: "by form" };
  // RFC 6749 section 2.3.1: each is form-encoded before.
  const pair = new URLSearchParams(`id=${atob(basic).replace(":", "&secret=")}`);
  return { id: pair.get("id"), secret: pair.get("secret"), way: "by header" };
}

function metadataOf(url: string, alg: string): Claims {
  return {
    issuer: url,
    authorization_endpoint: `${url}/authorize`,
    token_endpoint: `${url}/token`,
    userinfo_endpoint: `${url}/userinfo`,
    jwks_uri: `${url}/keys`,
    id_token_signing_alg_values_supported: [alg],
    token_endpoint_auth_methods_supported: ["client_secret_post"],
  };
}

async function makeKey(alg: string, kid: string): Promise<SigningKey> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return { alg, kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: "sig" } };
}
