import { MINUTE } from "#core/lib/clock.ts";
import { type Context, InterruptedError } from "./context.ts";
import { type Decision, decide, type Wanted, type Wishes } from "./decide.ts";
import { ENDS } from "./ends.ts";
import type { Failure } from "./machine.ts";
import { ServerError } from "./ports.ts";
import { bootToCome } from "./reboot.ts";
import type { Target } from "./state.ts";

/** The last question before a host is changed. Null: the build may be deployed. */
export type AskAgain = (context: Context, target: Target) => Promise<Failure | null>;

/** For so long the server's word stands where it cannot be asked again: it may just be starting anew. */
const WORD_AGE_MS_MAX = 10 * MINUTE;

/** What the server's word leads to now. */
export function decideNow(context: Context, wanted: Wanted, wishes: Wishes): Decision {
  const { host, keeper, settings } = context;
  const nextBoot = bootToCome(context)?.target ?? null;
  return decide(wanted, { state: keeper.state, view: host.view(), mode: settings.mode, nextBoot }, wishes);
}

/** What the server said last, and when: fetching and waiting for a busy host take hours in which it may change. */
export class LastWord {
  readonly #wishes: Wishes;
  #wanted: Wanted;
  #heardAtMs: number;
  #isOfAnother = false;

  constructor(wanted: Wanted, { heardAtMs, wishes }: { readonly heardAtMs: number; readonly wishes: Wishes }) {
    this.#wanted = wanted;
    this.#heardAtMs = heardAtMs;
    this.#wishes = wishes;
  }

  get wanted(): Wanted {
    return this.#wanted;
  }

  /** It was to deploy another build than the one that was asked about. */
  get isOfAnother(): boolean {
    return this.#isOfAnother;
  }

  /** Asks once more. A server that is away leaves its word standing for some minutes, or for who forces the build. */
  async confirm(context: Context, target: Target): Promise<Failure | null> {
    const { server, clock, signal, narrator } = context;
    try {
      this.#wanted = await server.wanted();
      this.#heardAtMs = clock.monotonic();
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (signal.aborted) throw new InterruptedError("interrupted while asking the server");
      const isFresh = this.#wishes.force || clock.monotonic() - this.#heardAtMs <= WORD_AGE_MS_MAX;
      const reason = `${error.message}; the build is fetched, and the server's word on it`;
      if (error.end !== "unreachable") return { ok: false, end: error.end, reason: `${reason} was asked for again` };
      if (!isFresh) return { ok: false, end: error.end, reason: `${reason} is too old` };
      narrator.warn(`${reason} stands`);
      return null;
    }
    const decision = decideNow(context, this.#wanted, this.#wishes);
    if (decision.kind === "end") {
      return { ok: false, end: decision.end, reason: decision.reason ?? ENDS[decision.end].description };
    }
    const { storePath, buildId } = decision.target;
    if (storePath === target.storePath) return null;
    this.#isOfAnother = true;
    return { ok: false, end: "older", reason: `the server wants build ${buildId} by now` };
  }
}
