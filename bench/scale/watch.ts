import type { Socket } from "#core/protocol/socket.ts";

/** What a builder's places had to do with builds. Times are milliseconds since the epoch, with fractions. */
export type SlotEvent =
  | { readonly at: number; readonly worker: number; readonly free: number }
  | { readonly at: number; readonly worker: number; readonly build: string };

const ASSIGNED = /^\{"type":"assign_job".*?"build":"([0-9a-f-]{36})"/;
const WANTED = /^\{"type":"request_job","kind":"build".*?"free":(\d+)/;

/** Looks at what workers send and receive, without taking part in it. */
export class Watch {
  readonly events: SlotEvent[] = [];
  /** By `performance.now()`. */
  firstAssignedAt = 0;
  #missing = 0;
  #onAll: () => void = () => {};

  /** Resolves once so many results were acknowledged from now on. */
  acknowledged(count: number): Promise<void> {
    this.#missing = count;
    return new Promise((resolve) => {
      this.#onAll = resolve;
    });
  }

  over(socket: Socket, worker: number): Socket {
    const watched: Socket = {
      send: (data) => {
        if (typeof data === "string") this.#sent(data, worker);
        return socket.send(data);
      },
      close: (code, reason) => socket.close(code, reason),
      onMessage: () => {},
      onClose: () => {},
    };
    socket.onMessage = (data) => {
      if (typeof data === "string") this.#received(data, worker);
      watched.onMessage(data);
    };
    socket.onClose = (reason) => watched.onClose(reason);
    return watched;
  }

  #sent(text: string, worker: number): void {
    const free = text.startsWith('{"type":"request_job"') && WANTED.exec(text)?.[1];
    if (free) this.events.push({ at: now(), worker, free: Number(free) });
  }

  #received(text: string, worker: number): void {
    if (text.startsWith('{"type":"assign_job"')) {
      const build = ASSIGNED.exec(text)?.[1];
      if (build === undefined) return;
      if (this.firstAssignedAt === 0) this.firstAssignedAt = performance.now();
      // Copied: cut out of it, the id would keep the whole message.
      this.events.push({ at: now(), worker, build: Buffer.from(build, "latin1").toString("latin1") });
    } else if (text.startsWith('{"type":"job_result_ack"') && --this.#missing === 0) this.#onAll();
  }
}

function now(): number {
  return performance.timeOrigin + performance.now();
}
