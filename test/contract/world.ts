import type { Kysely } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { DEFAULT_RETRY_POLICY } from "#core/domain/failure.ts";
import { createEvaluationControl } from "#core/services/evaluations-control.ts";
import { createApp } from "#handlers/app.ts";
import { withApp } from "#test/handlers/support.ts";
import { openUndoable, type StatementListener } from "./one-connection.ts";
import { type ActorName, makePeople, makeTokens } from "./people.ts";
import { absentOf, makeThings, type Things } from "./things.ts";

export interface Asking {
  readonly method: string;
  /** With its names filled in, below the prefix. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: NonNullable<RequestInit["body"]> | null;
}

/** One of everything that routes name: an organization with a project, an evaluation, builds, caches, and people. */
export interface World extends AsyncDisposable {
  /** What stands for the names in a path, as it exists. */
  readonly present: Things;
  /** The same, of things that do not exist. */
  readonly absent: Things;
  /** What the application's database is without: nothing is taken back. */
  readonly db: Kysely<Database>;
  /** The application's answer; whatever it changed is taken back, and so is what was prepared for it. */
  ask(as: ActorName, asking: Asking, prepare?: (db: Kysely<Database>) => Promise<void>): Promise<Response>;
}

export async function makeWorld({ onStatement }: { readonly onStatement?: StatementListener } = {}): Promise<World> {
  const stack = new AsyncDisposableStack();
  const base = stack.use(await withApp());
  const people = await makePeople(base);
  const present = await makeThings(base, people);
  const tokens = await makeTokens(base, people);
  const undoable = stack.use(await openUndoable(base.pool, onStatement));
  const deps = { ...base.deps, db: undoable.db };
  const control = createEvaluationControl({ ...deps, retry: DEFAULT_RETRY_POLICY, leaseMs: 60_000 });
  const app = createApp({ ...deps, control, git: { resolve: async () => ({ commit: "0".repeat(40), ref: "HEAD" }) } });

  return {
    present,
    db: base.db,
    absent: absentOf(present),
    ask: async (as, { method, path, headers, body = null }, prepare) => {
      const token = tokens[as];
      return await undoable.undone(async () => {
        await prepare?.(undoable.db);
        const response = await app.request(`http://127.0.0.1:3000/api/v1${path}`, {
          method,
          headers: { ...(token && { authorization: `Bearer ${token}` }), ...headers },
          body,
        });
        // What is still to be read of the database is read before it is undone.
        const bytes = await readSome(response);
        return new Response(bytes, { status: response.status, headers: response.headers });
      });
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** A live answer ends late or never; its first part says enough. */
async function readSome(response: Response): Promise<Uint8Array<ArrayBuffer> | null> {
  if (!response.body || [101, 204, 302, 304].includes(response.status)) return null;
  const isLive = response.headers.get("x-accel-buffering") === "no";
  if (!isLive) return new Uint8Array(await response.arrayBuffer());
  const reader = response.body.getReader();
  const { value } = await reader.read();
  await reader.cancel();
  return new Uint8Array(value ?? new Uint8Array());
}
