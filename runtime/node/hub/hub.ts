import { closeAllWorkerConnections } from "#core/db/worker-connections.ts";
import type { Socket } from "#core/protocol/socket.ts";
import { expireLeases, keepLeasesOverRestart, tidyTransitions } from "#core/services/transitions/leases.ts";
import type { HubDeps } from "./deps.ts";
import { Dispatcher } from "./dispatcher.ts";
import { WorkerSession } from "./session.ts";

/** What a lost wake-up costs at most. */
const POLL_INTERVAL_MS = 5_000;

/** The sessions of all workers of this server, and the loops that keep evaluations going. */
export class Hub {
  readonly #deps: HubDeps;
  readonly #sessions = new Set<WorkerSession>();
  /**
   * Those that have begun to register, in that order. A worker id may have several, each with organizations of its own:
   * whoever registers a foreign id has proved nothing to the others.
   */
  readonly #registered = new Set<WorkerSession>();
  readonly #dispatcher: Dispatcher;
  readonly #unsubscribe: (() => void)[];
  #cancelTimers: (() => void)[] = [];
  #closing = false;

  private constructor(deps: HubDeps) {
    this.#deps = deps;
    this.#dispatcher = new Dispatcher(deps, () => this.#registered);
    this.#unsubscribe = [
      deps.notifier.subscribe("work", () => this.#dispatcher.kick()),
      deps.notifier.subscribe("abort", (attemptId) => this.#abort(attemptId)),
      deps.notifier.subscribe("registration", (subject) => this.#reauthorize(subject)),
    ];
  }

  /** Takes over what an earlier server left, and starts the loops. */
  static async start(deps: HubDeps): Promise<Hub> {
    await closeAllWorkerConnections(deps.db);
    await keepLeasesOverRestart(deps);
    const hub = new Hub(deps);
    hub.#every(Math.min(POLL_INTERVAL_MS, deps.leaseMs / 3), () => hub.#tidy());
    return hub;
  }

  get connections(): number {
    return this.#sessions.size;
  }

  accept(socket: Socket): void {
    const session = new WorkerSession(this.#deps, socket, {
      onRegistered: (registered) => this.#register(registered),
      onDemand: () => this.#dispatcher.kick(),
      onClosed: (closed) => this.#closed(closed),
    });
    this.#sessions.add(session);
    if (this.#closing) session.connection.close(1001, "the server is stopping");
  }

  /** Ends every session; workers go on with what they run and come back to the next server. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const end of [...this.#unsubscribe, ...this.#cancelTimers]) end();
    for (const session of [...this.#sessions]) session.connection.close(1001, "the server is stopping");
    await this.#dispatcher.settled();
  }

  /**
   * The newer session of a worker replaces the older, which may be a socket whose other end is long gone: in the
   * organizations that the newer has proved, and altogether when the older is left with none.
   */
  async #register(session: WorkerSession): Promise<void> {
    const { workerId, organizationIds } = session;
    const isTaken = (id: string) => organizationIds.includes(id);
    const older = [...this.#registered].filter(
      (other) => other.workerId === workerId && other.organizationIds.some(isTaken),
    );
    this.#registered.add(session);
    for (const { organizationIds: proved, connection } of older) {
      if (proved.every(isTaken)) connection.close(4409, "a newer session of this worker has begun");
    }
    // One that has ended already may still be in the middle of its registration.
    await Promise.all(older.map(({ step }) => step));
    for (const { jobs, connection } of older) if (!connection.closed) jobs?.yieldTo(organizationIds);
  }

  #closed(session: WorkerSession): void {
    this.#sessions.delete(session);
    void session.step.then(() => this.#registered.delete(session));
    session.jobs?.closed().catch((error: unknown) => this.#warn("a session's end was not recorded", error));
  }

  #warn(message: string, error: unknown): void {
    this.#deps.log.warn(message, { error });
  }

  #abort(attemptId: string): void {
    for (const { jobs } of this.#registered) jobs?.abort(attemptId, "it was ended on the server");
  }

  /**
   * The worker connects again at once and proves itself under the changed registration. So does one whose handshake has
   * looked at the old one. Sessions that other organizations let in under the same id are not concerned.
   */
  #reauthorize(subject: string): void {
    const [organizationId = "", workerId] = subject.split("/");
    for (const session of [...this.#sessions]) {
      if (session.workerId !== workerId || !session.dependsOn(organizationId)) continue;
      const end = () => session.connection.close(4408, "the registration of this worker has changed");
      if (!session.jobs) end();
      else
        session.jobs
          .revoke()
          .catch((error: unknown) => this.#warn("jobs were not taken back yet", error))
          .finally(end);
    }
  }

  async #tidy(): Promise<void> {
    // Ahead of what reaps: while the database was away nobody could record that these workers were heard.
    for (const { jobs, connection } of [...this.#registered]) if (!connection.closed) await jobs?.heartbeat();
    await expireLeases(this.#deps);
    await tidyTransitions(this.#deps);
    this.#dispatcher.kick();
  }

  /** Runs the task again and again with a pause in between, whatever becomes of it. */
  #every(intervalMs: number, task: () => Promise<void>): void {
    let cancel = () => {};
    const next = () => {
      cancel = this.#deps.clock.schedule(intervalMs, () => {
        task()
          .catch((error: unknown) => this.#deps.log.error("a loop of the hub failed; it runs again", { error }))
          .finally(() => {
            if (!this.#closing) next();
          });
      });
    };
    next();
    this.#cancelTimers.push(() => cancel());
  }
}
