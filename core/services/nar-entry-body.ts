import type { ByteStream } from "../lib/streams.ts";
import type { NarEvent } from "../nix/nar.ts";
import type { Codec } from "../ports/codec.ts";
import { tarOf } from "./nar-tar.ts";

/** A file, or a folder as a tar file that is compressed with zstd. */
export interface EntryBody {
  readonly kind: "file" | "archive";
  /** Bytes; null for an archive, whose size is known only at its end. */
  readonly size: number | null;
  readonly body: ByteStream;
  /** Lets go of what is open; for a body that is not read, or not to its end. */
  discard(): Promise<void>;
}

/** What is compressed as it is sent is compressed quickly. */
const ZSTD_LEVEL = 1;

/** The entry whose events these are; in an archive it is called `name`. Null for a link, and for no entry at all. */
export async function entryBody(
  codec: Codec,
  events: AsyncGenerator<NarEvent>,
  name: string,
): Promise<EntryBody | null> {
  const { value: first } = await events.next();
  const discard = async () => void (await events.return(undefined));
  if (first?.kind === "file") return { kind: "file", size: first.size, body: contentOf(events), discard };
  if (first?.kind === "directory") {
    const body = codec.compressZstd(tarOf(continued(first, events), name), { level: ZSTD_LEVEL });
    return { kind: "archive", size: null, body, discard };
  }
  await discard();
  return null;
}

async function* contentOf(events: AsyncGenerator<NarEvent>): AsyncGenerator<Uint8Array> {
  for await (const event of events) if (event.kind === "content") yield event.bytes;
}

async function* continued(first: NarEvent, rest: AsyncGenerator<NarEvent>): AsyncGenerator<NarEvent> {
  yield first;
  yield* rest;
}
