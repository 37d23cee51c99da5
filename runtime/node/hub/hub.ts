import { closeWorkerConnection } from "#core/db/worker-connections.ts";
import type { Socket } from "#core/protocol/socket.ts";
import { expireLeases, tidyTransitions } from "#core/services/transitions/leases.ts";
import { beatServer, drainServer, joinServers, leaveServers } from "#core/services/transitions/servers.ts";
import type { HubDeps } from "./deps.ts";
import { Dialler } from "./dialler.ts";
import { Dispatcher } from "./dispatcher.ts";
import { mayWait } from "./idle-places.ts";
import { NarReturns } from "./nar-returns.ts";
import { type DialledWorker, WorkerSession } from "./session.ts";
import { SessionPlaces } from "./session-places.ts";
import { listChangedRegistrations, yieldReplaced } from "./session-upkeep.ts";
import type { WorkerJobs } from "./worker-jobs.ts";
import { WorkerSampler } from "./worker-sampler.ts";

/** What a lost wake-up costs at most. */
const POLL_INTERVAL_MS = 5_000;
const RETURNS_INTERVAL_MS = 15_000;

export interface AcceptOptions {
  /** Of whoever opened the socket. */
  readonly address: string;
  /** The worker that this server has dialled; null for one that came by itself. */
  readonly dialled: DialledWorker | null;
}

/** The sessions of all workers of this server, and the loops that keep evaluations going. */
export class Hub {
  readonly #deps: HubDeps;
  readonly #sessions: SessionPlaces;
  /**
   * Those that have begun to register, in that order. A worker id may have several, each with organizations of its own:
   * whoever registers a foreign id has proved nothing to the others.
   */
  readonly #registered = new Set<WorkerSession>();
  /** Sessions that the database may count as open still: it was away when they ended. */
  readonly #unrecordedEnds = new Set<string>();
  readonly #dispatcher: Dispatcher;
  readonly #dialler: Dialler;
  readonly #returns: NarReturns;
  readonly #unsubscribe: (() => void)[];
  #cancelTimers: (() => void)[] = [];
  #closing = false;

  private constructor(deps: HubDeps) {
    this.#deps = deps;
    this.#sessions = new SessionPlaces(deps.limits.maxProtoConnections, (session) => this.#registered.has(session));
    this.#dispatcher = new Dispatcher(deps, () => this.#registered);
    this.#returns = new NarReturns(deps, () => this.#registered);
    this.#dialler = new Dialler(deps, {
      hasRoom: () => this.hasRoomFor(""),
      accept: (socket, dialled) => this.accept(socket, { dialled }),
    });
    this.#unsubscribe = [
      deps.notifier.subscribe("work", () => this.#dispatcher.kick()),
      deps.notifier.subscribe("abort", (attemptId) => this.#abort(attemptId)),
      deps.notifier.subscribe("registration", (subject) => {
        this.#reauthorize(subject);
        this.#dialler.kick();
      }),
      deps.notifier.subscribe("damage", (subject) => this.#returns.look({ everything: subject === "all" })),
      deps.notifier.subscribe("session", (workerId) => this.#replaced(workerId)),
      deps.notifier.subscribe("missed", () => void this.#attempt(() => this.#look())),
    ];
  }

  /** Joins the servers of this database, takes over what one that is gone has left, and starts the loops. */
  static async start(deps: HubDeps): Promise<Hub> {
    await joinServers(deps);
    const hub = new Hub(deps);
    hub.#every(Math.min(POLL_INTERVAL_MS, deps.leaseMs / 3), () => hub.#tidy());
    const sampler = new WorkerSampler(deps, () => hub.#registered);
    hub.#dialler.start();
    hub.#every(RETURNS_INTERVAL_MS, async () => hub.#returns.look());
    hub.#every(deps.limits.workerSampleIntervalMs, () => sampler.sample());
    return hub;
  }

  get connections(): number {
    return this.#sessions.size;
  }

  /** Whether one more socket of that address may begin a session. */
  hasRoomFor(address: string): boolean {
    return !this.#closing && this.#sessions.hasRoomFor(address);
  }

  accept(socket: Socket, { address = "", dialled = null }: Partial<AcceptOptions> = {}): WorkerSession {
    const events = {
      refuse: (registering: WorkerSession) => this.#sessions.refuse(registering),
      onRegistered: (registered: WorkerSession) => this.#register(registered),
      onProved: (session: WorkerSession, organizationIds: readonly string[]) => {
        for (const { jobs } of this.#takeOver(session, organizationIds)) jobs?.yieldTo(organizationIds);
      },
      onDemand: (kind?: "build") => (kind ? this.#dispatcher.kickForBuilds() : this.#dispatcher.kick()),
      mayWait: (own: WorkerJobs, organizationId: string) =>
        mayWait(
          own,
          Array.from(this.#registered, ({ jobs }) => jobs),
          organizationId,
        ),
      onClosed: (closed: WorkerSession) => this.#closed(closed),
    };
    const session = new WorkerSession(this.#deps, socket, events, dialled);
    this.#sessions.add(session, address);
    if (this.#closing) session.connection.close(1001, "the server is stopping");
    return session;
  }

  /** Ends every session; workers go on with what they run and come back to the next server. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#returns.close();
    for (const end of [...this.#unsubscribe, ...this.#cancelTimers]) end();
    const dialled = this.#dialler.close();
    for (const session of [...this.#sessions]) session.drain("the server is stopping");
    await dialled;
    await this.#attempt(() => drainServer(this.#deps));
    await this.#dispatcher.close();
    await this.#attempt(() => leaveServers(this.#deps));
  }

  /**
   * The newer session of a worker replaces the older, which may be a socket whose other end is long gone: in the
   * organizations that the newer has proved, and altogether when the older is left with none.
   */
  async #register(session: WorkerSession): Promise<void> {
    const { organizationIds } = session;
    const older = this.#takeOver(session, organizationIds);
    this.#registered.add(session);
    // One that has ended already may still be in the middle of its registration.
    await Promise.all(older.map(({ step }) => step));
    for (const { jobs, connection } of older) if (!connection.closed) jobs?.yieldTo(organizationIds);
  }

  /** The other sessions of the worker that speak for any of these organizations. Those for no other end. */
  #takeOver(session: WorkerSession, organizationIds: readonly string[]): WorkerSession[] {
    const isTaken = (id: string) => organizationIds.includes(id);
    const others = [...this.#registered].filter(
      (other) => other !== session && other.workerId === session.workerId && other.organizationIds.some(isTaken),
    );
    for (const { organizationIds: proved, connection } of others) {
      if (proved.every(isTaken)) connection.close(4409, "a newer session of this worker has begun");
    }
    return others;
  }

  #closed(session: WorkerSession): void {
    this.#sessions.delete(session);
    void session.step.then(() => {
      // One that ended while it registered may be open in the database.
      if (this.#registered.delete(session) && !session.jobs) this.#unrecordedEnds.add(session.id);
    });
    session.jobs
      ?.closed()
      .catch((error: unknown) => {
        this.#unrecordedEnds.add(session.id);
        this.#warn("a session's end was not recorded; it is tried again", error);
      })
      .finally(() => this.#dispatcher.kick());
  }

  /** Who counts as connected keeps evaluations from saying what they wait for. */
  async #recordEnds(): Promise<void> {
    for (const id of [...this.#unrecordedEnds]) {
      await closeWorkerConnection(this.#deps.db, id);
      this.#unrecordedEnds.delete(id);
    }
  }

  #warn(message: string, error: unknown): void {
    this.#deps.log.warn(message, { error });
  }

  /** A newer session of the worker may be on another server. Own ones are dealt with when they register. */
  #replaced(workerId: string): void {
    const sessions = [...this.#registered].filter((session) => session.workerId === workerId);
    if (sessions.length > 0) void this.#attempt(() => yieldReplaced(this.#deps, sessions));
  }

  #abort(attemptId: string): void {
    for (const { jobs } of this.#registered) jobs?.abort(attemptId, "it was ended on the server");
  }

  /**
   * The worker proves itself under the changed registration. Sessions that other organizations let in under the same id
   * are not concerned.
   */
  #reauthorize(subject: string): void {
    const [organizationId = "", workerId] = subject.split("/");
    for (const session of [...this.#sessions]) {
      if (session.workerId === workerId && session.dependsOn(organizationId)) session.renew();
    }
  }

  /** What wake-ups of other servers should have told. */
  async #look(): Promise<void> {
    this.#dispatcher.kick();
    await yieldReplaced(this.#deps, this.#registered);
    for (const subject of await listChangedRegistrations(this.#deps, this.#registered)) this.#reauthorize(subject);
  }

  async #tidy(): Promise<void> {
    await this.#recordEnds();
    await this.#look();
    // Ahead of what reaps: while the database was away nobody could record that these workers were heard.
    for (const { jobs, connection } of [...this.#registered]) if (!connection.closed) await jobs?.heartbeat();
    if (await beatServer(this.#deps)) await expireLeases(this.#deps);
    await tidyTransitions(this.#deps);
    this.#dispatcher.kick();
  }

  async #attempt(task: () => Promise<void>): Promise<void> {
    await task().catch((error: unknown) => this.#warn("a task of the hub failed; it runs again", error));
  }

  /** Runs the task again and again with a pause in between, whatever becomes of it. */
  #every(intervalMs: number, task: () => Promise<void>): void {
    let cancel = () => {};
    const next = () => {
      cancel = this.#deps.clock.schedule(intervalMs, () => {
        void this.#attempt(task).finally(() => {
          if (!this.#closing) next();
        });
      });
    };
    next();
    this.#cancelTimers.push(() => cancel());
  }
}
