import type { Hono } from "hono";
import type { Actor } from "#core/domain/actor.ts";
import { type IpNetwork, parseIpNetwork } from "#core/domain/ip-address.ts";
import { RETENTION_DEFAULTS } from "#core/domain/retention.ts";
import { utf8 } from "#core/lib/bytes.ts";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom } from "#core/lib/ids.ts";
import type { Notifier } from "#core/ports/notifier.ts";
import { OutboundError } from "#core/ports/outbound.ts";
import type { PasswordHasher } from "#core/ports/password-hasher.ts";
import { createSecretKeys } from "#core/services/cache-sign.ts";
import { UploadPlaces } from "#core/services/cache-upload-places.ts";
import type { ServiceSettings } from "#core/services/deps.ts";
import { createUser } from "#core/services/registration.ts";
import { createSecretBox } from "#core/services/secret-box.ts";
import { Upstreams } from "#core/services/upstreams.ts";
import { type AppDeps, createApp } from "#handlers/app.ts";
import type { AppEnv } from "#handlers/env.ts";
import { nodeCodec } from "#runtime/node/codec.ts";
import { nodeHasher } from "#runtime/node/hasher.ts";
import { expectPromised } from "#test/contract/observed.ts";
import { type TestDatabase, withDatabase } from "#test/support/database.ts";
import { memoryBlobs } from "#test/support/memory-blobs.ts";
import { quietLogger } from "#test/support/quiet-logger.ts";
import { makeSession } from "#test/support/session.ts";

export const PASSWORD = "Tr0ub4dor&3x";

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** As it came, for comparisons byte for byte. */
  readonly text: string;
  readonly body: { readonly error: boolean; readonly code?: string; readonly message: never };
}

export interface AskOptions {
  /** A session's token or an API key. */
  readonly token?: string;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

export interface TestUser {
  readonly id: string;
  readonly username: string;
  readonly actor: Actor;
  readonly token: string;
}

export interface TestApp extends AsyncDisposable {
  readonly app: Hono<AppEnv>;
  readonly deps: AppDeps;
  readonly db: TestDatabase["db"];
  readonly pool: TestDatabase["pool"];
  /** `topic subject` of every wake-up so far. */
  readonly notified: string[];
  /** Every verification so far, in order. */
  readonly verified: string[];
  /** Fails when the answer is none that the API's document promises. */
  ask(method: string, path: string, options?: AskOptions): Promise<Answer>;
  user(username: string, options?: { readonly superuser?: boolean }): Promise<TestUser>;
}

/** The whole application on a database of its own, called without a socket. */
export async function withApp(settings: Partial<ServiceSettings> = {}): Promise<TestApp> {
  const database = await withDatabase();
  const notified: string[] = [];
  const verified: string[] = [];
  const deps = await appDeps(database, { notified, verified, settings });
  const app = createApp(deps);

  return {
    app,
    deps,
    db: database.db,
    pool: database.pool,
    notified,
    verified,
    ask: async (method, path, { token, body, headers = {} } = {}) => {
      const request = new Request(`http://127.0.0.1:3000/api/v1${path}`, {
        method,
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      });
      const response = await app.request(request);
      await expectPromised(method, path, response.clone());
      const text = await response.text();
      return {
        status: response.status,
        headers: response.headers,
        text,
        body: text === "" ? { error: !response.ok } : JSON.parse(text),
      };
    },
    user: async (username, { superuser = false } = {}) => {
      const email = `${username}@example.com`;
      const id = await createUser(deps, { username, name: username, email, password: PASSWORD, superuser });
      const actor = { user: { id, username, superuser }, key: null, sessionId: null };
      return { id, username, actor, token: await makeSession(deps, id) };
    },
    [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
  };
}

async function appDeps(
  { db }: TestDatabase,
  { notified, verified, settings }: { notified: string[]; verified: string[]; settings: Partial<ServiceSettings> },
): Promise<AppDeps> {
  const notifier: Notifier = {
    notify: (topic, subject) => notified.push(`${topic} ${subject}`),
    subscribe: () => () => {},
  };
  const secrets = await createSecretBox(utf8("a crypt secret of the tests"));
  const nowhere = () => Promise.reject(new OutboundError("refused", "these tests have no other machines"));
  const outbound = { get: nowhere };
  const ports = { clock: systemClock, log: quietLogger, notifier, outbound, codec: nodeCodec, hasher: nodeHasher };
  const common = { db, ...ports };
  return {
    ...common,
    random: systemRandom,
    upstreams: new Upstreams({ ...common, secrets, viaName: "ci.example.com", upstreamQueriesMax: 1 }),
    blobs: memoryBlobs(),
    secretKeyOf: createSecretKeys(secrets),
    sourceBytesMax: 10 * 1024 * 1024,
    uploadPlaces: new UploadPlaces(),
    narUploadBytesMax: 4 * 1024 * 1024,
    passwords: recordingHasher(verified),
    secrets,
    settings: {
      version: "0.0.0-test",
      serveUrl: "https://ci.example.com",
      frontendUrl: "https://ci.example.com",
      secureCookie: true,
      mail: null,
      oidc: null,
      jwtSecret: utf8("a token secret of the tests, long enough"),
      registrationEnabled: true,
      createOrganization: "everyone",
      createCache: "everyone",
      ...settings,
    },
    oidc: null,
    git: { resolve: () => Promise.reject(new Error("these tests have no repositories")) },
    actions: { web: { postJson: nowhere }, mailer: null },
    control: noControl(),
    projects: { keepEvaluations: 30, allowLocalSources: false },
    retention: RETENTION_DEFAULTS,
    http: {
      requestBytesMax: 64 * 1024,
      peerAddress: (c) => c.req.header("x-test-peer") ?? null,
      trustedProxies: [parseIpNetwork("127.0.0.1/32") as IpNetwork],
    },
  };
}

/** Stands in for Argon2, whose cost has no place here. It notes what it verified against. */
function recordingHasher(verified: string[]): PasswordHasher {
  return {
    hash: async (secret) => `test$${secret}`,
    verify: async (stored, secret) => {
      verified.push(stored);
      return stored === `test$${secret}`;
    },
  };
}

function noControl(): AppDeps["control"] {
  const refuse = () => Promise.reject(new Error("these tests have no evaluations"));
  return {
    abort: refuse,
    restartFailed: refuse,
    approve: refuse,
    prioritize: refuse,
    abortBuild: refuse,
    restartBuild: refuse,
    prioritizeBuild: refuse,
  };
}
