import { type MessagePort, parentPort } from "node:worker_threads";
import { unpackBzip2 } from "#core/lib/bzip2/unpack.ts";
import type { FromThread, ToThread } from "./bzip2.ts";

/** Unpacks one body for `bzip2.ts`, a step whenever it is asked for one. */
const port = parentPort as MessagePort;
const answers: ((message: ToThread) => void)[] = [];
port.on("message", (message: ToThread) => answers.shift()?.(message));

function say(message: FromThread, transferred: ArrayBuffer[] = []): Promise<ToThread> {
  const answer = new Promise<ToThread>((resolve) => answers.push(resolve));
  port.postMessage(message, transferred);
  return answer;
}

async function* incoming(): AsyncGenerator<Uint8Array> {
  for (;;) {
    const answer = await say({ kind: "need" });
    if (answer.kind !== "bytes") return;
    yield answer.bytes;
  }
}

try {
  for await (const bytes of unpackBzip2(incoming())) {
    const whole = bytes as Uint8Array<ArrayBuffer>;
    await say({ kind: "bytes", bytes: whole }, [whole.buffer]);
  }
  port.postMessage({ kind: "end" } satisfies FromThread);
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  port.postMessage({ kind: "failed", message } satisfies FromThread);
}
