import type { ByteStream } from "../lib/streams.ts";
import { NAR_LIMITS, type NarEvent, type NarLimits } from "./nar.ts";
import { NarScanner } from "./nar-scanner.ts";

export { NAR_LIMITS, type NarEvent, type NarFile, type NarLimits, NarParseError } from "./nar.ts";

/** Reads a NAR strictly: what is accepted is what Nix itself would write for the tree. Throws `NarParseError`. */
export async function* readNar(stream: ByteStream, limits: NarLimits = NAR_LIMITS): AsyncGenerator<NarEvent> {
  let events: NarEvent[] = [];
  const scanner = new NarScanner(limits, (event) => events.push(event));
  for await (const chunk of stream) {
    scanner.push(chunk);
    for (const event of events) yield event;
    events = [];
  }
  scanner.end();
}

/**
 * Passes the chunks through. A chunk that makes the bytes so far no NAR is not passed on: `NarParseError` is thrown in
 * its place, or at the end when the NAR is not complete.
 */
export async function* validateNar(stream: ByteStream, limits: NarLimits = NAR_LIMITS): AsyncGenerator<Uint8Array> {
  const scanner = new NarScanner(limits, null);
  for await (const chunk of stream) {
    scanner.push(chunk);
    yield chunk;
  }
  scanner.end();
}
