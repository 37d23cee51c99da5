import { type Clock, systemClock } from "#core/lib/clock.ts";
import type { ServiceSettings } from "#core/services/deps.ts";
import { OIDC_CALLBACK_PATH } from "#core/services/oidc.ts";
import { OidcProvider } from "#core/services/oidc-provider.ts";
import { createApp } from "#handlers/app.ts";
import { createOutbound } from "#runtime/node/outbound.ts";
import { type TestApp, withApp } from "#test/handlers/support.ts";
import { type LogLine, type RecordingLogger, recordingLogger } from "#test/support/recording-logger.ts";
import { CLIENT, type Claims, type TestProvider } from "./provider.ts";

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: { readonly error: boolean; readonly code?: string; readonly message: unknown } | null;
}

export interface Person {
  readonly id: string;
  readonly username: string;
  readonly name: string;
  readonly email: string;
  readonly email_verified: boolean;
}

/** The whole application beside an identity provider. */
export interface Site extends AsyncDisposable {
  readonly t: TestApp;
  readonly log: RecordingLogger;
  ask(method: string, path: string, options?: { cookie?: string; token?: string; body?: unknown }): Promise<Answer>;
  /** From the login page to the provider and back: the callback's answer. */
  signIn(provider: TestProvider, claims: Claims, userInfo?: Claims): Promise<Answer>;
  /** The same for who must come in: the account as the database has it. */
  signedIn(provider: TestProvider, claims: Claims, userInfo?: Claims): Promise<Person>;
  /** Goes to the provider: the address of its page, and the cookie that the browser keeps. */
  begin(): Promise<{ readonly url: string; readonly cookie: string }>;
  comeBack(url: URL, cookie: string | null): Promise<Answer>;
  /** The last line that warns. */
  lastWarning(): LogLine | undefined;
  /** The reason of the last failure, as the audit log has it. */
  lastFailure(): Promise<string | undefined>;
}

export interface SiteOptions {
  readonly discoveryUrl: string;
  readonly required?: boolean;
  readonly iconUrl?: string;
  readonly clientSecret?: string;
  readonly scopes?: string;
  readonly frontendUrl?: string;
  /** Whoever registers shows by a mail that the address is theirs. */
  readonly verifies?: boolean;
  /** Ends what waits for the provider long before its time. */
  readonly impatient?: boolean;
}

const IMPATIENT_CLOCK: Clock = { ...systemClock, schedule: (_, action) => systemClock.schedule(100, action) };

export async function startSite(options: SiteOptions): Promise<Site> {
  const { discoveryUrl, required = false, iconUrl = null } = options;
  const t = await withApp();
  const log = recordingLogger();
  const outbound = createOutbound({ allowed: [], privateAllowed: true }, { ownHost: new URL(discoveryUrl).hostname });
  const mail = options.verifies ? { verificationRequired: true } : null;
  const { frontendUrl = t.deps.settings.frontendUrl } = options;
  const settings: ServiceSettings = { ...t.deps.settings, frontendUrl, oidc: { required, iconUrl }, mail };
  const oidc = new OidcProvider(
    { clock: options.impatient ? IMPATIENT_CLOCK : systemClock, outbound },
    {
      discoveryUrl,
      clientId: CLIENT.id,
      clientSecret: options.clientSecret ?? CLIENT.secret,
      scopes: options.scopes ?? "openid email profile",
      redirectUri: `${settings.serveUrl}${OIDC_CALLBACK_PATH}`,
    },
  );
  const app = createApp({ ...t.deps, log, oidc, settings });

  const ask: Site["ask"] = async (method, path, { cookie, token, body } = {}) => {
    const headers: Record<string, string> = { "user-agent": "a browser" };
    if (cookie) headers.cookie = cookie;
    if (token) headers.authorization = `Bearer ${token}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    const init = { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
    const response = await app.request(new Request(`http://127.0.0.1:3000${path}`, init));
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text === "" ? null : JSON.parse(text) };
  };
  const begin: Site["begin"] = async () => {
    const { status, headers } = await ask("GET", "/api/v1/auth/oidc/login");
    if (status !== 302) throw new Error(`the login page answered ${status}`);
    return { url: headers.get("location") as string, cookie: cookieOf(headers, "oidc_csrf") };
  };
  const comeBack: Site["comeBack"] = async (url, cookie) =>
    await ask("GET", `${url.pathname}${url.search}`, cookie === null ? {} : { cookie });
  const signIn: Site["signIn"] = async (provider, claims, userInfo) => {
    const { url, cookie } = await begin();
    return await comeBack(provider.agree(url, claims, userInfo), cookie);
  };
  return {
    t,
    log,
    ask,
    begin,
    comeBack,
    signIn,
    async signedIn(provider, claims, userInfo) {
      const answer = await signIn(provider, claims, userInfo);
      if (answer.status !== 302) throw new Error(`${answer.status}: ${await lastFailure(t)}`);
      const token = cookieOf(answer.headers, "jwt_token").split("=")[1] as string;
      const { body } = await ask("GET", "/api/v1/user", { token });
      const id = (body?.message as { id: string } | undefined)?.id ?? "";
      const columns = ["id", "username", "name", "email", "email_verified"] as const;
      return await t.db.selectFrom("user_account").select(columns).where("id", "=", id).executeTakeFirstOrThrow();
    },
    lastWarning: () => log.lines.findLast(({ level }) => level === "warn"),
    lastFailure: () => lastFailure(t),
    async [Symbol.asyncDispose]() {
      outbound.close();
      await t[Symbol.asyncDispose]();
    },
  };
}

async function lastFailure({ db }: TestApp): Promise<string | undefined> {
  const row = await db
    .selectFrom("audit_event")
    .select("metadata")
    .where("event", "=", "login.failure")
    .orderBy("created_at", "desc")
    .limit(1)
    .executeTakeFirst();
  return (row?.metadata as { reason?: string } | undefined)?.reason;
}

/** `name=value` of what the answer sets. */
export function cookieOf(headers: Headers, name: string): string {
  const line = headers.getSetCookie().find((cookie) => cookie.startsWith(`${name}=`));
  if (!line) throw new Error(`the answer sets no cookie ${name}`);
  return line.split(";")[0] as string;
}
