import { DEFAULT_RETRY_POLICY } from "#core/domain/failure.ts";
import { ORGANIZATION_ROLE } from "#core/domain/permissions.ts";
import type { GitRemote } from "#core/ports/git-remote.ts";
import type { Notifier, Topic } from "#core/ports/notifier.ts";
import { createEvaluationControl } from "#core/services/evaluations-control.ts";
import type { TransitionDeps } from "#core/services/transitions/deps.ts";
import { type AppDeps, createApp } from "#handlers/app.ts";
import { expectPromised } from "../contract/observed.ts";
import { type AskOptions, type TestApp, type TestUser, withApp } from "../handlers/support.ts";
import { COMMIT, insertOrganization } from "./rows.ts";

export interface People {
  /** Admin of the organization `acme`. */
  readonly admin: TestUser;
  readonly writer: TestUser;
  readonly viewer: TestUser;
  /** Belongs to nothing. */
  readonly stranger: TestUser;
}

export interface BuildsApi extends AsyncDisposable, People {
  readonly db: TestApp["db"];
  readonly deps: AppDeps;
  /** The private organization `acme`. */
  readonly organizationId: string;
  readonly notified: string[];
  readonly notifier: Notifier;
  /** Who listens to a topic now. */
  listeners(topic: Topic): number;
  /** What the repositories answer; tests replace it. */
  readonly git: { resolve: GitRemote["resolve"] };
  fetch(method: string, path: string, user?: TestUser | null, options?: FetchOptions): Promise<Response>;
  /** The whole answer; `message` is what the envelope holds. Fails when the API's document promises no such answer. */
  ask(method: string, path: string, user?: TestUser | null, body?: unknown): Promise<Asked>;
}

export interface FetchOptions extends Pick<AskOptions, "body" | "headers"> {
  readonly signal?: AbortSignal;
  /** Goes out as it is. */
  readonly rawBody?: FormData | Uint8Array<ArrayBuffer>;
}

export interface Asked {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly code: string | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it asked for, and compares all of it.
  readonly message: any;
}

/** The application with a state machine, a working notifier and a git that answers, and an organization of people. */
export async function withBuildsApi(settings: Partial<AppDeps["projects"]> = {}): Promise<BuildsApi> {
  const base = await withApp();
  const notified: string[] = [];
  const { notifier, listeners } = localNotifier(notified);
  const git: BuildsApi["git"] = { resolve: async () => ({ commit: COMMIT, ref: "HEAD" }) };
  const transitions: TransitionDeps = { ...base.deps, notifier, retry: DEFAULT_RETRY_POLICY, leaseMs: 60_000 };
  const deps: AppDeps = {
    ...base.deps,
    notifier,
    git: { resolve: (...args) => git.resolve(...args) },
    control: createEvaluationControl(transitions),
    projects: { keepEvaluations: 30, allowLocalSources: false, ...settings },
  };
  const app = createApp(deps);
  const people = {
    admin: await base.user("ada"),
    writer: await base.user("walt"),
    viewer: await base.user("vera"),
    stranger: await base.user("stan"),
  };
  const organizationId = await insertOrganization(base.db, {
    name: "acme",
    members: {
      [people.admin.id]: ORGANIZATION_ROLE.Admin,
      [people.writer.id]: ORGANIZATION_ROLE.Write,
      [people.viewer.id]: ORGANIZATION_ROLE.View,
    },
  });

  const fetch: BuildsApi["fetch"] = async (
    method,
    path,
    user = people.admin,
    { body, headers, signal, rawBody } = {},
  ) =>
    await app.request(`http://127.0.0.1:3000/api/v1${path}`, {
      method,
      headers: {
        ...(user && { authorization: `Bearer ${user.token}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      ...(rawBody !== undefined && { body: rawBody }),
      ...(signal && { signal }),
    });
  const ask: BuildsApi["ask"] = async (method, path, user, body) => {
    const response = await fetch(method, path, user, { body });
    await expectPromised(method, path, response.clone());
    const text = await response.text();
    const { code, message } = JSON.parse(text) as { code?: string; message: unknown };
    return { status: response.status, headers: response.headers, text, code, message };
  };
  const dispose = () => base[Symbol.asyncDispose]();
  return {
    ...people,
    db: base.db,
    deps,
    organizationId,
    notified,
    notifier,
    listeners,
    git,
    fetch,
    ask,
    [Symbol.asyncDispose]: dispose,
  };
}

/** Tells who listens in this process, at once, and notes `topic subject`. */
function localNotifier(notified: string[]): { notifier: Notifier; listeners: (topic: Topic) => number } {
  const handlers = new Map<Topic, Set<(subject: string) => void>>();
  const notifier: Notifier = {
    notify: (topic, subject) => {
      notified.push(`${topic} ${subject}`);
      for (const handler of handlers.get(topic) ?? []) handler(subject);
    },
    subscribe: (topic, handler) => {
      const set = handlers.get(topic) ?? new Set();
      handlers.set(topic, set.add(handler));
      return () => set.delete(handler);
    },
  };
  return { notifier, listeners: (topic) => handlers.get(topic)?.size ?? 0 };
}
