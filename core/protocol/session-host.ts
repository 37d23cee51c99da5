import type { Connection } from "./connection.ts";
import type { NarWants } from "./nar-wants.ts";
import type { ServerMessage } from "./server-messages.ts";
import type { SessionAuthority, SessionGrant } from "./session-authority.ts";
import type { Capabilities, WorkerMessage } from "./worker-messages.ts";

type ServerTransport = Extract<ServerMessage, { type: "credit" | "stream_stop" | "heartbeat" }>;
export type WorkerConnection = Connection<WorkerMessage, Exclude<ServerMessage, ServerTransport>>;
export type Incoming = Exclude<WorkerMessage, { type: "credit" | "stream_stop" | "heartbeat" }>;
type Of<T extends Incoming["type"]> = Extract<Incoming, { type: T }>;
/** What only a registered worker sends, and the session itself has nothing to do with. */
export type WorkMessage = Exclude<
  Incoming,
  {
    type:
      | "init_connection"
      | "auth_response"
      | "reauth_request"
      | "worker_capabilities"
      | "nar_return"
      | "nar_absent"
      | "error";
  }
>;

/** What a worker says of itself when its session begins. */
export interface Introduction {
  readonly capabilities: Capabilities;
  readonly message: Of<"worker_capabilities">;
  /** Those that it still runs or has results of. */
  readonly attempts: readonly string[];
}

/** What a registered worker's messages go to. */
export interface SessionWork {
  /**
   * Called in the order of arrival. A promise tells when the message is dealt with: a worker that sends much faster
   * than that loses its session.
   */
  receive(message: WorkMessage): void | Promise<void>;
  /** The worker says anew what it can do; it names no attempts then. */
  describe(message: Of<"worker_capabilities">): void;
  /** While true it gets no jobs: what it may do is being looked at. */
  setPaused(paused: boolean): void;
}

/** What a host sees of a session. */
export interface SessionView {
  readonly connection: WorkerConnection;
  readonly workerId: string;
  /** What the worker has proved. */
  readonly grants: readonly SessionGrant[];
  /** Asks the worker for NARs that were lost; only one that has said that it answers. */
  readonly wants: NarWants;
  /** Ends the session with a reason that the worker shows its operator. */
  reject(code: number, reason: string): void;
}

/** Where a session belongs: the hub of a server, or a relay. */
export interface SessionHost<Work extends SessionWork> {
  readonly authority: SessionAuthority;
  /**
   * The worker has proved itself (`session.grants`) and said what it can do. Resolves with what its messages go to, or
   * with null when the session is over meanwhile.
   */
  register(session: SessionView, introduction: Introduction): Promise<Work | null>;
  /**
   * `session.grants` has changed. Resolves when the worker holds nothing any more of organizations that fell away.
   */
  regrant(session: SessionView, work: Work): Promise<void>;
  refused(session: SessionView, code: number, reason: string): void;
  /** A step could not be made for a reason of this side. */
  failed(session: SessionView, error: unknown): void;
  /** The worker ends the session for what it was sent. */
  accused(session: SessionView, code: number, reason: string): void;
  closed(session: SessionView, reason: string): void;
}
