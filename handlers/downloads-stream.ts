import type { Clock } from "#core/lib/clock.ts";
import type { Download } from "#core/services/downloads-open.ts";

/**
 * A download as a body. Nothing is read ahead of the client. The body ends with an error when the client takes nothing
 * for `idleMsMax`. `onEnd` is called once, when everything that was open is closed.
 */
export function pacedStream(
  clock: Clock,
  { body, discard }: Pick<Download, "body" | "discard">,
  { idleMsMax, onEnd }: { readonly idleMsMax: number; readonly onEnd: () => void },
): ReadableStream<Uint8Array> {
  const iterator = body[Symbol.asyncIterator]();
  let cancelTimer = () => {};
  const end = async () => {
    cancelTimer();
    try {
      await iterator.return?.();
      await discard();
    } finally {
      onEnd();
    }
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        cancelTimer = clock.schedule(idleMsMax, () => giveUp(controller));
      },
      async pull(controller) {
        cancelTimer();
        try {
          const { done, value } = await iterator.next();
          if (done) {
            await end();
            return controller.close();
          }
          controller.enqueue(value);
        } catch (error) {
          await end();
          throw error;
        }
        cancelTimer = clock.schedule(idleMsMax, () => giveUp(controller));
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  );

  function giveUp(controller: ReadableStreamDefaultController<Uint8Array>): void {
    controller.error(new Error("the client takes nothing"));
    void end().catch(() => {});
  }
}
