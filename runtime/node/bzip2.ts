import { on } from "node:events";
import { Worker } from "node:worker_threads";
import { Bzip2Error } from "#core/lib/bzip2/unpack.ts";
import type { ByteStream } from "#core/lib/streams.ts";

export type ToThread =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | { readonly kind: "end" }
  | { readonly kind: "next" };
export type FromThread =
  | { readonly kind: "need" }
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | { readonly kind: "end" }
  | { readonly kind: "failed"; readonly message: string };

/**
 * Unpacks on a thread of its own: a block takes some 50 ms, in which this one would answer nobody. The consumer sets
 * the pace, in lock step.
 */
export async function* unpackBzip2Aside(body: ByteStream): AsyncGenerator<Uint8Array> {
  const source = body[Symbol.asyncIterator]();
  const thread = new Worker(new URL("./bzip2-thread.ts", import.meta.url));
  const answer = (message: ToThread) => thread.postMessage(message);
  let ended = false;
  try {
    // An error of the thread itself is thrown here.
    for await (const [message] of on(thread, "message") as AsyncIterable<[FromThread]>) {
      switch (message.kind) {
        case "need": {
          const read: IteratorResult<Uint8Array> = ended ? { done: true, value: undefined } : await source.next();
          ended = read.done === true;
          answer(read.done ? { kind: "end" } : { kind: "bytes", bytes: read.value });
          break;
        }
        case "bytes":
          yield message.bytes;
          answer({ kind: "next" });
          break;
        case "end":
          return;
        case "failed":
          throw new Bzip2Error(message.message);
      }
    }
  } finally {
    await thread.terminate();
    if (!ended) await source.return?.();
  }
}
