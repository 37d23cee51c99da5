import type { Notifier, Topic } from "#core/ports/notifier.ts";
import type { Random } from "./random.ts";
import type { SimulatedProcess } from "./simulator.ts";

const OWN_DELAY_MS = 40;
const OTHERS_DELAY_MS = 200;
const TWICE = 0.02;

type Handler = (subject: string) => void;
interface Listener {
  readonly process: SimulatedProcess;
  readonly topic: Topic;
  readonly handler: Handler;
}

/** Wake-ups within a server and between servers. They come late, twice or not at all: no more is promised of them. */
export class WakeUps {
  /** How many of them are lost. */
  loss = 0;
  readonly #random: Random;
  readonly #listeners = new Set<Listener>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** As a process has them. */
  open(process: SimulatedProcess): Notifier {
    return {
      notify: (topic, subject) => this.#notify(process, topic, subject),
      subscribe: (topic, handler) => {
        const listener = { process, topic, handler };
        this.#listeners.add(listener);
        return () => void this.#listeners.delete(listener);
      },
    };
  }

  #notify(from: SimulatedProcess, topic: Topic, subject: string): void {
    const random = this.#random;
    for (const process of new Set(Array.from(this.#listeners, (listener) => listener.process))) {
      if (!process.alive || random.chance(this.loss)) continue;
      const times = random.chance(TWICE) ? 2 : 1;
      for (let i = 0; i < times; i++) {
        const delay = random.below(process === from ? OWN_DELAY_MS : OTHERS_DELAY_MS);
        process.clock.schedule(delay, () => this.#deliver(process, topic, subject));
      }
    }
  }

  #deliver(process: SimulatedProcess, topic: Topic, subject: string): void {
    for (const listener of [...this.#listeners]) {
      if (listener.process === process && listener.topic === topic) listener.handler(subject);
    }
  }
}
