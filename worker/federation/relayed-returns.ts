import { SECOND } from "#core/lib/clock.ts";
import type { NarWanted } from "#core/protocol/nar-return-messages.ts";
import type { WantAnswer } from "#core/protocol/nar-wants.ts";
import type { SessionView } from "#core/protocol/session-host.ts";
import type { SendReturn } from "../session/nar-returns.ts";
import type { RelayedWorker } from "./relayed-worker.ts";

/** Less than the server waits for the relay. */
const ANSWER_MS: number = 45 * SECOND;

/**
 * Asks those workers behind the relay that work for the organization, all at once, and passes on what the first of them
 * sends. Null when that is done, else why not.
 */
export async function returnFromBehind(
  workers: Iterable<readonly [SessionView, RelayedWorker]>,
  { organization, path, nar_hash, nar_size }: NarWanted,
  send: SendReturn,
): Promise<string | null> {
  const question = { organization, path, nar_hash, nar_size };
  const asked = [...workers].filter(
    ([, worker]) => worker.description.returns_nars === true && worker.isFor(organization),
  );
  const answers = asked.map(async ([{ wants }]) => await wants.ask(question, ANSWER_MS));
  const first = await firstBody(answers);
  if (!first) return "no worker behind this relay has it";
  await send(first.compression, first.body);
  return null;
}

type Returned = Extract<WantAnswer, { readonly body: unknown }>;

/** What others send as well is not taken. */
async function firstBody(answers: readonly Promise<WantAnswer>[]): Promise<Returned | null> {
  let taken: Returned | null = null;
  const bodies = answers.map(async (answer) => {
    const got = await answer;
    if ("absent" in got) throw new Error(got.absent);
    if (taken) {
      await got.body[Symbol.asyncIterator]().return?.();
      throw new Error("another was first");
    }
    taken = got;
    return got;
  });
  return await Promise.any(bodies).catch(() => null);
}
