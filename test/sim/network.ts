import type { Socket } from "#core/protocol/socket.ts";
import type { Random } from "./random.ts";
import type { SimulatedProcess, Simulator } from "./simulator.ts";

/** What systems and proxies hold of a connection's data before the sender has to wait. */
const IN_FLIGHT_BYTES_MAX = 512 * 1024;
const CONNECT_TIMEOUT_MS = 10_000;
const BYTES_A_MS = 20_000;

export type Side = "worker" | "server";

/** Told of every control message as it leaves and as it arrives. */
export interface Tap {
  sent(link: Link, from: Side, text: string): void;
  received(link: Link, by: Side, text: string): void;
}

export interface NetworkWeather {
  /** The longest time that a message takes. */
  latencyMs: number;
}

/** Connections between workers and the server, and everything that may happen to them. */
export class Network {
  readonly weather: NetworkWeather = { latencyMs: 40 };
  readonly links = new Set<Link>();
  readonly simulator: Simulator;
  readonly random: Random;
  readonly tap: Tap;
  /** By number, the servers that listen: each takes a worker's connection. A proxy in front of them picks one. */
  readonly listening = new Map<number, (link: Link) => SimulatedProcess>();
  /** Called once, when the next session is about to be registered. */
  atRegistration: ((link: Link) => void) | null = null;
  readonly #cutUntilMs = new Map<string, number>();
  #nextLink = 1;

  constructor(simulator: Simulator, random: Random, tap: Tap) {
    this.simulator = simulator;
    this.random = random;
    this.tap = tap;
  }

  /** As a worker connects: after a while it has a socket, or an error. */
  async connect(worker: SimulatedProcess, workerId: string, signal: AbortSignal): Promise<Socket> {
    await worker.pause(this.delay());
    if (this.isCut(workerId)) {
      await worker.pause(CONNECT_TIMEOUT_MS);
      throw new Error("connect ETIMEDOUT");
    }
    if (this.listening.size === 0) throw new Error("connect ECONNREFUSED");
    signal.throwIfAborted();
    const [number, accept] = this.random.pick([...this.listening]);
    const link = new Link(this, { number: this.#nextLink++, workerId, worker, server: number });
    this.links.add(link);
    const server = accept(link);
    link.toServer.owner = server;
    server.onDeath(() => link.ownerDied("server"));
    worker.onDeath(() => link.ownerDied("worker"));
    await worker.pause(this.delay());
    if (signal.aborted) link.toWorker.close(1001, "the worker is stopping");
    if (link.toWorker.closed) throw new Error("read ECONNRESET");
    return link.toWorker;
  }

  delay(): number {
    return 1 + Math.floor(this.weather.latencyMs * this.random.next() ** 3);
  }

  isCut(workerId: string): boolean {
    return (this.#cutUntilMs.get(workerId) ?? 0) > this.simulator.elapsedMs;
  }

  /** Nothing goes between this worker and the server for a while; what was sent comes afterwards, or never. */
  cut(workerId: string, ms: number, lossy: boolean): void {
    this.#cutUntilMs.set(workerId, this.simulator.elapsedMs + ms);
    for (const link of this.links) {
      if (link.workerId !== workerId) continue;
      for (const side of ["worker", "server"] as const) {
        if (lossy) link.silence(side);
        else link.hold(side, ms);
      }
    }
  }

  /** How many connections work in both directions; null while there is one that does not. */
  get soundLinks(): number | null {
    for (const { toServer, toWorker } of this.links) {
      if (toServer.silent || toWorker.silent || toServer.gone || toWorker.gone) return null;
    }
    return this.links.size;
  }

  /** What waits goes on; what was silenced stays so, and both sides have to find out by themselves. */
  describe(): string {
    const state = ({ silent, gone, closed }: End) =>
      `${silent ? "silent " : ""}${gone ? "gone " : ""}${closed ? "closed" : ""}`;
    return Array.from(this.links, (link) => `#${link.number} ${state(link.toWorker)}/${state(link.toServer)}`).join(
      ", ",
    );
  }

  heal(): void {
    this.#cutUntilMs.clear();
    this.atRegistration = null;
    this.weather.latencyMs = 40;
  }
}

/** One connection. What is sent to one side arrives there in order, or not at all. */
export class Link {
  readonly number: number;
  readonly workerId: string;
  /** The number of the server that has it. */
  readonly server: number;
  /** Each end as its owner has it. */
  readonly toWorker: End;
  readonly toServer: End;
  readonly network: Network;

  constructor(
    network: Network,
    given: {
      readonly number: number;
      readonly workerId: string;
      readonly worker: SimulatedProcess;
      readonly server: number;
    },
  ) {
    const { worker } = given;
    this.network = network;
    this.number = given.number;
    this.workerId = given.workerId;
    this.server = given.server;
    this.toWorker = new End(this, "worker", worker);
    this.toServer = new End(this, "server", worker);
    this.toWorker.other = this.toServer;
    this.toServer.other = this.toWorker;
  }

  end(side: Side): End {
    return side === "worker" ? this.toWorker : this.toServer;
  }

  /** Both sides learn that the connection is gone, each in its own time. */
  reset(): void {
    for (const end of [this.toWorker, this.toServer]) end.closeLater(this.network.delay(), "the connection was reset");
  }

  /** What this side sends is lost from now on, and nobody is told. */
  silence(side: Side): void {
    this.end(side).silent = true;
  }

  /** What this side sends waits on the way. */
  hold(side: Side, ms: number): void {
    this.end(side).heldUntilMs = this.network.simulator.elapsedMs + ms;
  }

  /** The system closes what the process had open; where the machine itself is gone, nobody hears of it. */
  ownerDied(side: Side): void {
    const other = this.end(side).other;
    this.end(side).gone = true;
    if (other.gone || other.closed) this.network.links.delete(this);
    if (!this.end(side).silent) other.closeLater(this.network.delay(), "the peer's process has ended");
  }
}

/** One side's socket. */
export class End implements Socket {
  onMessage: (data: string | Uint8Array) => void = () => {};
  onClose: (reason: string) => void = () => {};
  other: End = this;
  owner: SimulatedProcess;
  silent = false;
  gone = false;
  heldUntilMs = 0;
  readonly link: Link;
  readonly side: Side;
  #closed = false;
  #lastArrivalMs = 0;
  #inFlight = 0;
  #waiting: (() => void)[] = [];

  constructor(link: Link, side: Side, owner: SimulatedProcess) {
    this.link = link;
    this.side = side;
    this.owner = owner;
  }

  get closed(): boolean {
    return this.#closed;
  }

  async send(data: string | Uint8Array): Promise<void> {
    if (this.#closed) throw new Error("the socket is closed");
    const { network } = this.link;
    if (typeof data === "string") network.tap.sent(this.link, this.side, data);
    const copy = typeof data === "string" ? data : data.slice();
    this.#inFlight += copy.length;
    this.#onArrival(copy.length, () => {
      this.#inFlight -= copy.length;
      for (const wake of this.#waiting.splice(0)) wake();
      this.other.#receive(copy);
    });
    while (this.#inFlight > IN_FLIGHT_BYTES_MAX && !this.#closed) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (this.#closed) throw new Error("the socket is closed");
  }

  close(_code: number, reason: string): void {
    if (this.#closed) return;
    this.#onArrival(0, () => this.other.#end(reason));
    this.#end(reason);
  }

  /** Something arrives here that the other side may never have sent. */
  inject(text: string): void {
    this.#receive(text);
  }

  closeLater(ms: number, reason: string): void {
    this.link.network.simulator.schedule(ms, () => this.#end(reason));
  }

  #onArrival(bytes: number, action: () => void): void {
    if (this.silent) return;
    const { simulator } = this.link.network;
    const earliest = simulator.elapsedMs + this.link.network.delay() + Math.floor(bytes / BYTES_A_MS);
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, earliest, this.heldUntilMs);
    simulator.schedule(this.#lastArrivalMs - simulator.elapsedMs, () => {
      if (!this.silent) action();
    });
  }

  #receive(data: string | Uint8Array): void {
    if (this.#closed || !this.owner.alive) return;
    if (typeof data === "string") this.link.network.tap.received(this.link, this.side, data);
    this.onMessage(data);
    if (typeof data === "string" && data.startsWith('{"type":"worker_capabilities"')) {
      const { network } = this.link;
      const act = network.atRegistration;
      network.atRegistration = null;
      act?.(this.link);
    }
  }

  #end(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const wake of this.#waiting.splice(0)) wake();
    if (this.other.#closed || this.other.gone) this.link.network.links.delete(this.link);
    if (this.owner.alive) this.onClose(reason);
  }
}
